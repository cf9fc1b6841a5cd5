"""Runs a command of the package from a checkout, installed or not."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from infopro_seg_command import start


def run(module: str) -> None:
    """Run a module of `infopro_seg.cli` and exit with its code."""
    sys.exit(start(module))
