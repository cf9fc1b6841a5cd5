"""Collect what studies measured of accuracy, for the planner to show."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _command import run

if __name__ == '__main__':
    run('price_list')
