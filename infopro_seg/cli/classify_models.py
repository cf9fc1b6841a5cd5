"""List which configs of the installed mmseg can be trained as local modules."""

import argparse
import collections
import dataclasses
import json
import sys
import warnings
from pathlib import Path

from ..checkpoints.files import write_whole
from .run import make_parser, output_file

_PACKAGES = (
    'onedl-mmsegmentation',
    'mmsegmentation',
    'mmpretrain',
    'onedl-mmpretrain',
    'timm',
    'torch',
)
_TITLE = 'Which mmseg configs can be trained as local modules'
_EPILOG = """\
example:
  python tools/classify_models.py --markdown docs/models.md --json models.json

No weights are allocated; the configs of mmseg take a few minutes on one core.
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; None means that of the process."""
    parser = make_parser(__doc__, _EPILOG)
    parser.add_argument(
        '--configs', type=Path, help='folder of configs; default: those of mmseg'
    )
    parser.add_argument(
        '--markdown', metavar='FILE', type=Path, help='write a table into a page'
    )
    parser.add_argument(
        '--json', metavar='FILE', type=output_file, help='save all verdicts'
    )
    parser.add_argument(
        '--one-per-combination',
        action='store_true',
        help='one config for each combination of segmentor, backbone, neck and heads',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit status."""
    args = parse_args(argv)
    import mmseg
    from mmseg.utils import register_all_modules

    from ..install import installed_versions
    from ..report.pages import fill_page
    from ..report.zoo_text import support_parts
    from ..zoo.classify import classify_folder

    warnings.simplefilter('ignore')
    register_all_modules()
    folder = args.configs or Path(mmseg.__file__).parent / '.mim' / 'configs'
    if not folder.is_dir():
        print(f'error: there is no folder {folder}', file=sys.stderr)
        return 2
    verdicts = []
    for verdict in classify_folder(
        folder, one_per_combination=args.one_per_combination
    ):
        verdicts.append(verdict)
        print(f'{verdict.config}: {verdict.reason or f"{verdict.num_units} units"}')
    counts = collections.Counter(verdict.is_supported for verdict in verdicts)
    print(f'{counts[True]} supported, {counts[False]} refused')
    versions = installed_versions(_PACKAGES)
    if args.markdown:
        fill_page(args.markdown, support_parts(verdicts, versions), _TITLE)
    if args.json:
        rows = [dataclasses.asdict(verdict) for verdict in verdicts]
        report = {'versions': versions, 'configs': rows}
        write_whole((json.dumps(report, indent=1) + '\n').encode(), args.json)
    return 0
