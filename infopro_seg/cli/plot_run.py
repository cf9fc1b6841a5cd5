"""Draw the log of a run: losses, mIoU, learning rate, cost of every local module."""

import argparse
import sys
from pathlib import Path

from .run import make_parser

EXAMPLE = """example:
  python tools/analysis/plot_run.py work_dirs/infopro_deeplabv3_r18_streets

Time, memory and gradient norm of the modules are there if LocalModuleMonitorHook was in
custom_hooks.
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; None means that of the process."""
    parser = make_parser(__doc__, EXAMPLE)
    parser.add_argument('run', type=Path, help='work dir of the run, or a scalars.json')
    parser.add_argument('--out', type=Path, help='PNG file; default: RUN/run.png')
    parser.add_argument('--force', action='store_true', help='replace the file')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Read the log, draw it; return the exit code."""
    args = parse_args(argv)
    folder = args.run if args.run.is_dir() else args.run.parent
    out = args.out or folder / 'run.png'
    try:
        if out.exists() and not args.force:
            raise FileExistsError(f'{out} exists; give --force to replace it.')
        from ..report.run_log import read_run
        from ..report.run_plots import plot_run

        panels = plot_run(read_run(args.run), out, args.run.resolve().name)
    except (OSError, ImportError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(f'wrote {out}: {", ".join(panels)}')
    return 0
