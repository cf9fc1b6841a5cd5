"""Compare networks by their probes, over several seeds."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _command import run

if __name__ == '__main__':
    run('compare_probes')
