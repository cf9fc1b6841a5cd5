"""Runs a command of the package from a checkout, installed or not."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def run(command: str) -> None:
    """Run a command of `infopro_seg.cli` and exit with its code."""
    try:
        from infopro_seg.cli.run import run
    except ImportError as error:
        if '--debug' in sys.argv or os.environ.get('INFOPRO_SEG_DEBUG'):
            raise
        print(f'ImportError: {error}', file=sys.stderr)
        sys.exit(1)
    sys.exit(run(command))
