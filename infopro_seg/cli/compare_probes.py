"""Compare networks by their probes, over several seeds of each."""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..information.results import INFORMATION, Entry, read_results
from ..report.information_plots import plot_information
from ..report.tables import markdown_table
from ..study.summary import paired_difference
from .run import make_parser, picture_file

EXAMPLE = """example:
  python tools/analysis/compare_probes.py probes/seed0 probes/seed1 probes/seed2

Each folder was written by tools/probe.py with networks of one seed, under the same
names.
"""
# Key, header, digits.
_SCORES = (
    ('label_information_bits', 'I(h, y) >=', 3),
    ('miou', 'probe mIoU (%)', 2),
    ('image_information_bits', 'I(h, x) >=', 3),
)
Folders = Mapping[Path, Mapping[str, Entry]]


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; None means that of the process."""
    parser = make_parser(__doc__, EXAMPLE)
    parser.add_argument('folders', nargs='+', type=Path, metavar='FOLDER')
    parser.add_argument(
        '--baseline',
        metavar='NETWORK',
        help='the others are compared with it; default: the first',
    )
    parser.add_argument(
        '--picture',
        type=picture_file,
        metavar='FILE',
        help='draw the means over depth, e.g. probes.png',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Read, compare, print.

    Raises:
        FileNotFoundError: if a folder has no probes.
        ValueError: if the folders have other settings, networks or units.
    """
    args = parse_args(argv)
    folders = _read(args.folders)
    names = [*next(iter(folders.values()))]
    baseline = args.baseline or names[0]
    if baseline not in names:
        raise ValueError(
            f'--baseline {baseline!r} is no network of {args.folders[0]}; it has: '
            f'{", ".join(names)}.'
        )
    if args.picture:
        plot_information([_mean(folders, name) for name in names], args.picture)
    print(
        f'Means over {len(folders)} folders, and what they are less {baseline}; from '
        'three folders on with a 95% interval.\n'
    )
    print(_table(folders, names, baseline))


def _read(paths: Sequence[Path]) -> Folders:
    """Networks of each folder by name, which belong together."""
    folders: dict[Path, dict[str, Entry]] = {}
    expected: tuple[Path, Any, Any] | None = None
    for path in dict.fromkeys(paths):
        settings, entries = read_results(path, INFORMATION)
        settings.pop('seed', None)  # of the probes
        units = {entry['name']: _units(entry) for entry in entries}
        if len({*map(tuple, units.values())}) != 1:
            raise ValueError(
                f'{path} has no networks, or their probes are at other units: {units}. '
                'Probe all with the same --boundaries.'
            )
        expected = expected or (path, settings, units)
        for what, own, other in (
            ('settings', settings, expected[1]),
            ('networks and units', units, expected[2]),
        ):
            if own != other:
                raise ValueError(
                    f'{path} and {expected[0]} have other {what}, and cannot be '
                    f'compared: {own} and {other}.'
                )
        by_name = {entry['name']: entry for entry in entries}
        folders[path] = {name: by_name[name] for name in expected[2]}
    return folders


def _units(entry: Entry) -> list[str]:
    return [boundary['unit'] for boundary in entry['boundaries']]


def _mean(folders: Folders, name: str) -> Entry:
    """A network whose scores are the means over folders."""
    of_seeds = [entries[name]['boundaries'] for entries in folders.values()]
    boundaries = [
        {
            key: value if key == 'unit' else statistics.fmean(b[key] for b in same)
            for key, value in same[0].items()
        }
        for same in zip(*of_seeds, strict=True)
    ]
    return {'name': name, 'boundaries': boundaries}


def _table(folders: Folders, names: Sequence[str], baseline: str) -> str:
    header = ['unit', 'network']
    for _, title, _ in _SCORES:
        header += [title, f'less {baseline}']
    rows = []
    for i, unit in enumerate(_units(next(iter(folders.values()))[baseline])):
        for name in names:
            cells = [unit, name]
            for key, _, digits in _SCORES:
                own, other = (_of_seeds(folders, n, i, key) for n in (name, baseline))
                cells.append(f'{statistics.fmean(own.values()):.{digits}f}')
                is_baseline = name == baseline
                cells.append('' if is_baseline else _difference(own, other, digits))
            rows.append(tuple(cells))
    return markdown_table(tuple(header), rows, left=2)


def _of_seeds(folders: Folders, name: str, boundary: int, key: str) -> dict[int, float]:
    return {
        seed: entries[name]['boundaries'][boundary][key]
        for seed, entries in enumerate(folders.values())
    }


def _difference(
    own: Mapping[int, float], other: Mapping[int, float], digits: int
) -> str:
    found = paired_difference(own, other) or {}
    text = f'{found["mean"]:+.{digits}f}'
    if found['low'] is None:
        return text
    return f'{text} ({found["low"]:+.{digits}f} to {found["high"]:+.{digits}f})'
