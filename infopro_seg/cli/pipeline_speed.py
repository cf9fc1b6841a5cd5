"""Time a pipeline of two stages against other ways to use two cores, in one run.

DeepLabV3 on a narrow ResNet-101, one thread a process: one process, two that know
nothing of each other, a pipeline of two stages and two data parallel processes, in
turns. Scenes are drawn once.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import torch

from ..bundled import CHECKOUT
from ..checkpoints.files import write_whole
from ..pipeline.schedule import StageTimes, summarize
from ..report.tables import text_table
from ..report.timeline import Span, chrome_trace, draw_timelines, read_timelines
from .run import make_parser, output_file, picture_file

EXAMPLE = """example:
  python tools/analysis/pipeline_speed.py --json pipeline.json --picture pipeline.png
"""
_WARMUP = 3
_CONFIG = """
_base_ = '{config}'
custom_imports = dict(imports=['infopro_seg', 'fixed_scenes'])
model = dict(
    data_preprocessor=dict(size=({height}, {width})),
    backbone=dict(depth=101, base_channels=16),
    decode_head=dict(in_channels=512, channels=32),
    auxiliary_head=dict(in_channels=256, channels=32),
    local=dict(splits={splits}, random_streams='module'))
total_batch_size = {batch}
train_dataloader = dict(
    num_workers=0, persistent_workers=False,
    dataset=dict(
        type='FixedScenes', num_scenes={batch}, size=({height}, {width})))
val_cfg = val_dataloader = val_evaluator = None
train_cfg = dict(max_iters={iterations}, val_interval=10**6)
default_hooks = dict(
    logger=dict(interval=10**6), checkpoint=dict(interval=10**6, save_last=False))
custom_hooks = [
    dict(type='LocalTrainingHook'),
    dict(type='TimelineHook', begin={warmup}, end={iterations})]
"""
# Drawn and augmented once, so that loading takes no time.
_SCENES = """
import copy, functools
from infopro_seg.datasets.streets.dataset import DrawnStreetDataset
from mmseg.registry import DATASETS

@DATASETS.register_module()
class FixedScenes(DrawnStreetDataset):
    def __getitem__(self, index):
        return copy.deepcopy(self._drawn(index))

    @functools.cache
    def _drawn(self, index):
        return super().__getitem__(index)
"""
_LAUNCHER = ['-m', 'torch.distributed.run', '--nproc_per_node=2', '--standalone']


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLE)
    parser.add_argument('--rounds', type=int, default=3, help='of all ways; default: 3')
    parser.add_argument(
        '--iterations', type=int, default=12, help='timed ones of each run; default: 12'
    )
    parser.add_argument('--batch', type=int, default=4, help='images; default: 4')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=(128, 256),
        metavar=('H', 'W'),
        help='of the images; default: 128 256',
    )
    parser.add_argument(
        '--split', default='layer3.14', help='last unit of stage 0; default: layer3.14'
    )
    parser.add_argument('--json', type=output_file, help='file for the numbers')
    parser.add_argument(
        '--picture', type=picture_file, help='schedule of the last round'
    )
    parser.add_argument(
        '--trace', type=output_file, help='the same for chrome://tracing'
    )
    return parser.parse_args()


def main() -> int:
    """Time all ways, in turns, and report."""
    args = parse_args()
    if CHECKOUT is None:
        raise RuntimeError('run it in a checkout, whose tools it starts.')
    rounds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        trial = _Trial(Path(name), CHECKOUT, args)
        for number in range(args.rounds):
            ways = list(trial.ways)
            ways = ways[number % len(ways) :] + ways[: number % len(ways)]
            rounds.append({way: trial.ways[way]() for way in ways})
            print(f'round {number + 1} of {args.rounds}', file=sys.stderr)
        timelines = read_timelines(trial.folder / 'pipeline')
        alone = read_timelines(trial.folder / 'one process')[0]
    record = _record(args, rounds, timelines, alone)
    print(_report(record))
    if args.json:
        write_whole((json.dumps(record, indent=2) + '\n').encode(), args.json)
    if args.trace:
        write_whole(chrome_trace(timelines).encode(), args.trace)
    if args.picture:
        first = _WARMUP + args.iterations // 2
        shown = [
            [s for s in spans if s.iteration in range(first, first + 3)]
            for spans in timelines
        ]
        draw_timelines(shown, args.picture)
    return 0


class _Trial:
    """Starts the runs of all ways in a folder, and reads how long a step took."""

    def __init__(self, folder: Path, checkout: Path, args: argparse.Namespace) -> None:
        self.folder = folder
        self._checkout = checkout
        self.ways = {
            'one process': self._one,
            'two alone, side by side': self._side_by_side,
            'pipeline': lambda: self._launched('pipeline', 'pipeline=2'),
            'data parallel': lambda: self._launched('data parallel'),
        }
        height, width = args.size
        (folder / 'fixed_scenes.py').write_text(_SCENES)
        (folder / 'config.py').write_text(
            _CONFIG.format(
                config=checkout / 'configs/infopro_deeplabv3_r18_streets.py',
                height=height,
                width=width,
                splits=[args.split],
                batch=args.batch,
                iterations=_WARMUP + args.iterations,
                warmup=_WARMUP,
            )
        )
        self._train = [str(checkout / 'tools/train.py'), 'config.py', '--work-dir']

    def _one(self) -> float:
        self._wait([self._start('one process')])
        return self._seconds('one process')

    def _side_by_side(self) -> float:
        names = ['first alone', 'second alone']
        self._wait([self._start(name) for name in names])
        # Together they do as many steps a second as both.
        return 1 / sum(1 / self._seconds(name) for name in names)

    def _launched(self, name: str, *local: str) -> float:
        more = ['--launcher', 'pytorch', *(['--local', *local] if local else [])]
        self._wait([self._start(name, *more, launcher=_LAUNCHER)])
        return self._seconds(name)

    def _start(
        self, name: str, *more: str, launcher: Sequence[str] = ()
    ) -> subprocess.Popen:
        separator = ['--'] if launcher else []
        command = [sys.executable, *launcher, *separator, *self._train, name, *more]
        paths = [
            str(self.folder),
            str(self._checkout),
            os.environ.get('PYTHONPATH', ''),
        ]
        variables = {
            'PYTHONPATH': os.pathsep.join(filter(None, paths)),
            'OMP_NUM_THREADS': '1',
            'CUDA_VISIBLE_DEVICES': '',
        }
        with (self.folder / f'{name}.log').open('w') as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **variables},
            )

    def _wait(self, processes: Sequence[subprocess.Popen]) -> None:
        for process in processes:
            if process.wait():
                logs = ''.join(p.read_text()[-2000:] for p in self.folder.glob('*.log'))
                raise RuntimeError(f'a run failed:\n{logs}')

    def _seconds(self, name: str) -> float:
        """Of a step, of the process that finishes it."""
        return seconds_per_step(read_timelines(self.folder / name)[-1])


def seconds_per_step(spans: Sequence[Span]) -> float:
    """Median time between the ends of two iterations."""
    ends = sorted(span.end for span in spans if span.what == 'iteration')
    return statistics.median(after - end for end, after in itertools.pairwise(ends))


def stages_of_one(spans: Sequence[Span]) -> list[StageTimes]:
    """What two stages would take, from what one process took for their modules.

    Args:
        spans: Of a process that trained both modules one after the other.
    """
    names = ['local_0', 'local_0 backward', 'local_1', 'step', 'send', 'iteration']
    by_name = {name: [s for s in spans if s.what == name] for name in names}
    usual = {
        name: statistics.median(s.end - s.start for s in found)
        for name, found in by_name.items()
    }
    starts = zip(by_name['local_0'], by_name['send'], strict=True)
    to_wall = statistics.median(sent.start - module.start for module, sent in starts)
    # Loading and preparing the batch, which both do.
    rest = usual['iteration'] - usual['local_0'] - usual['local_1'] - usual['step']
    first = StageTimes(rest + to_wall, usual['local_0'] - to_wall)
    return [first, StageTimes(rest + usual['local_1'], usual['step'])]


def _record(
    args: argparse.Namespace,
    rounds: Sequence[dict[str, float]],
    timelines: Sequence[Sequence[Span]],
    alone: Sequence[Span],
) -> dict:
    sums = [
        {
            what: sum(s.end - s.start for s in spans if s.what == what)
            for what in ('send', 'wait', 'iteration')
        }
        for spans in timelines
    ]
    ways = {way: [r[way] for r in rounds] for way in rounds[0]}
    return {
        'date': date.today().isoformat(),
        'machine': f'{platform.machine()}, {os.cpu_count()} CPU cores',
        'torch': torch.__version__,
        'batch': args.batch,
        'size': list(args.size),
        'split': args.split,
        'iterations': args.iterations,
        'seconds': ways,
        'predicted_seconds': summarize(stages_of_one(alone)).seconds,
        'share_of_sending': [s['send'] / s['iteration'] for s in sums],
        'share_of_waiting': [s['wait'] / s['iteration'] for s in sums],
    }


def _report(record: dict) -> str:
    ways = record['seconds']
    base = ways['one process']
    rows = [('', 'seconds per step', 'speed-up', 'least', 'most')]
    for way, seconds in ways.items():
        ratios = sorted(b / s for b, s in zip(base, seconds, strict=True))
        middle = statistics.median(ratios)
        row = (statistics.median(seconds), middle, ratios[0], ratios[-1])
        rows.append((way, *(f'{value:.3f}' for value in row)))
    pairs = zip(ways['two alone, side by side'], ways['pipeline'], strict=True)
    share = statistics.median(alone / pipeline for alone, pipeline in pairs)
    measured = ways['pipeline'][-1]
    percent = 100 * (record['predicted_seconds'] / measured - 1)
    sent, waited = (
        ', '.join(f'{100 * x:.1f}%' for x in record[f'share_of_{what}'])
        for what in ('sending', 'waiting')
    )
    return '\n'.join(
        [
            text_table(rows),
            '',
            f'pipeline: {share:.2f} of two processes that know nothing of each other',
            f'predicted from one process: {record["predicted_seconds"]:.3f} s, '
            f'{percent:+.1f}% of the last round',
            f'of each stage, sending: {sent}; waiting for the stage before: {waited}',
        ]
    )
