"""Time what a stage may do for its batch: load it, or get it from another stage."""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import Runner
from torch import distributed
from torch.distributed import FileStore  # type: ignore[attr-defined]

from ..pipeline.link import Link
from ..scopes import use_scope_of
from .config import add_data_arguments, load_config
from .run import make_parser

EXAMPLE = """example:
  python tools/analysis/pipeline_batch.py --data-root CAMVID \\
      configs/infopro_deeplabv3_mobilenet-v2_camvid.py
"""
_WARMUP = 2


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLE)
    add_data_arguments(parser)
    parser.add_argument('--batches', type=int, default=20, help='default: 20')
    args = parser.parse_args()
    if args.batches < 1:
        parser.error(f'--batches {args.batches} must be 1 or more')
    args.work_dir = args.local = None
    args.launcher, args.local_rank = 'none', 0
    return args


def main() -> None:
    """Load batches, send them to a second process, and report."""
    args = parse_args()
    torch.set_num_threads(1)
    cfg = load_config(args)
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    use_scope_of(cfg)
    loader = iter(Runner.build_dataloader(cfg.train_dataloader, seed=0))
    batches: list[Any] = []
    loading = _Clock()
    for _ in range(args.batches + _WARMUP):
        if len(batches) == _WARMUP:
            loading.start()
        batches.append(next(loader))
    seconds, cpu = (x / args.batches for x in loading.stop())
    print(
        f'a batch of {cfg.train_dataloader.batch_size} images\n'
        f'loaded:   {1000 * seconds:.1f} ms, {1000 * cpu:.1f} ms of CPU time'
    )
    with tempfile.TemporaryDirectory() as folder:
        # Forked, so that the batches are there.
        context = get_context('fork')
        receiver = context.Process(target=_receive, args=(Path(folder), len(batches)))
        receiver.start()
        seconds, cpu = (x / args.batches for x in _send(Path(folder), batches))
        received = float(Path(folder, 'cpu').read_text()) / args.batches
        receiver.join()
    print(
        f'sent:     {1000 * seconds:.1f} ms, {1000 * cpu:.1f} ms of CPU time\n'
        f'received: {1000 * received:.1f} ms of CPU time'
    )


class _Clock:
    """Seconds, and seconds of CPU time."""

    def start(self) -> None:
        self._begin = time.perf_counter(), time.process_time()

    def stop(self) -> tuple[float, float]:
        wall, cpu = self._begin
        return time.perf_counter() - wall, time.process_time() - cpu


def _send(folder: Path, batches: Sequence[Any]) -> tuple[float, float]:
    link, clock = _connect(0, folder), _Clock()
    for number, batch in enumerate(batches):
        if number == _WARMUP:
            link.wait()
            clock.start()
        link.send(batch)
    link.wait()
    spent = clock.stop()
    distributed.barrier()
    distributed.destroy_process_group()
    return spent


def _receive(folder: Path, num_batches: int) -> None:
    link, clock = _connect(1, folder), _Clock()
    for number in range(num_batches):
        if number == _WARMUP:
            clock.start()
        link.receive()
    Path(folder, 'cpu').write_text(str(clock.stop()[1]))
    distributed.barrier()
    distributed.destroy_process_group()


def _connect(rank: int, folder: Path) -> Link:
    os.environ['LOCAL_RANK'] = str(rank)
    store = FileStore(str(folder / 'store'), 2)
    distributed.init_process_group('gloo', store=store, rank=rank, world_size=2)
    group: Any = distributed.group.WORLD
    return Link(1 - rank, f'process {1 - rank}', group, 'cpu', depth=2)
