"""Runs one part of a proof: ``python -m infopro_seg.proof PART FOLDER``."""

import sys
from pathlib import Path

from .runner import run_part

if __name__ == '__main__':
    run_part(sys.argv[1], Path(sys.argv[2]))
