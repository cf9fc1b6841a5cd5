"""Compare predicted peaks of the planner's plans with whole steps on fake tensors."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _command import run

if __name__ == '__main__':
    run('check_predictions')
