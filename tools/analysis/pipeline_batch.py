"""Time what a stage may do for its batch: load it, or get it from another stage."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _command import run

if __name__ == '__main__':
    run('pipeline_batch')
