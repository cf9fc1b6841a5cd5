"""Early backward passes under DistributedDataParallel, measured against alternatives.

    OMP_NUM_THREADS=1 python tests/distributed/ddp_alternatives.py --steps 30 --seed 0

Two processes (gloo, CPU, one thread each) train the same K=3 DeepLabV3 on the same
images. In every round each method makes one step, another one first each time, so that
whatever else the machine does hits all alike.

- hook: as the package does it, find_unused_parameters=True and early backward passes.
- reducers: one DistributedDataParallel for each local module with its local head.
- hand-out: early gradients stay private; one normal backward pass hands them to DDP.
- summed: local modules without early backward passes, as a reference.
- stock: the same network trained end-to-end, as a reference.

A step is forward, backward, averaging and SGD; its time is that of the slower process.
Peak memory is that of the tensors torch's operators return, DDP's buckets among them,
in a fourth step of its own; not what gloo allocates itself.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import distributed, multiprocessing

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from infopro_seg.planner.profile.allocation import AllocationTracker  # noqa: E402
from tests.distributed.ddp_methods import METHODS  # noqa: E402
from tests.helpers import batch  # noqa: E402

NUM_RANKS, NUM_WARM_UP = 2, 3


def run_rank(rank, args, folder):
    """All of it, in one of the processes; the first one prints."""
    torch.set_num_threads(1)
    store = distributed.FileStore(f'{folder}/store', NUM_RANKS)
    distributed.init_process_group('gloo', store=store, rank=rank, world_size=NUM_RANKS)

    def data_of(i):
        return batch(args.batch, (args.crop,) * 2, seed=NUM_RANKS * i + rank)

    methods = {name: cls(args.depth, args.seed) for name, cls in METHODS.items()}
    seconds = {name: [] for name in methods}
    differences = dict.fromkeys(methods, 0.0)
    names = list(methods)
    for i in range(NUM_WARM_UP + args.steps):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            data = data_of(i)
            torch.manual_seed(i)
            distributed.barrier()
            start = time.perf_counter()
            methods[name].step(data)
            seconds[name].append(time.perf_counter() - start)
        own = [p.grad for p in methods['hook'].model.parameters()]
        for name in ('reducers', 'hand-out', 'summed'):
            others = [p.grad for p in methods[name].model.parameters()]
            largest = max(
                (a - b).abs().max().item() for a, b in zip(own, others, strict=True)
            )
            differences[name] = max(differences[name], largest)
    times = torch.tensor([seconds[name][NUM_WARM_UP:] for name in names])
    distributed.all_reduce(times, distributed.ReduceOp.MAX)
    del methods
    peaks = {name: peak_mib(METHODS[name], args, data_of) for name in names}
    if rank == 0:
        report(dict(zip(names, times.tolist(), strict=True)), peaks, differences)
    distributed.destroy_process_group()


def peak_mib(cls, args, data_of):
    """Most memory of tensors in the fourth step; buckets are rebuilt by then."""
    with AllocationTracker() as tracker:
        method = cls(args.depth, args.seed)
        for i in range(4):
            tracker.reset_peak()
            method.step(data_of(i))
    return tracker.peak_bytes / 2**20


def report(times, peaks, differences):
    """A table; ratios are those to the hook's step of the same round."""
    print(
        'method     median s  quartiles s    ratio  quartiles      peak MiB  max |dg|'
    )
    for name, values in times.items():
        ratios = [a / b for a, b in zip(values, times['hook'], strict=True)]
        low, middle, high = statistics.quantiles(values, n=4)
        few, ratio, many = statistics.quantiles(ratios, n=4)
        difference = '-' if name in ('hook', 'stock') else f'{differences[name]:.1e}'
        print(
            f'{name:9}  {middle:8.4f}  {low:.4f}-{high:.4f}  {ratio:.3f}  '
            f'{few:.3f}-{many:.3f}  {peaks[name]:8.1f}  {difference:>8}'
        )
    print(
        f'torch {torch.__version__}, {len(values)} steps, load {os.getloadavg()[0]:.1f}'
    )


def main():
    """Read the command line, start the processes."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--steps', type=int, default=30)
    parser.add_argument('--depth', type=int, default=18, choices=(18, 50))
    parser.add_argument('--crop', type=int, default=128, help='pixels')
    parser.add_argument('--batch', type=int, default=2, help='images per process')
    parser.add_argument('--seed', type=int, default=0, help='of the weights')
    args = parser.parse_args()
    os.environ['PYTHONWARNINGS'] = 'ignore'
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(run_rank, args=(args, folder), nprocs=NUM_RANKS)


if __name__ == '__main__':
    main()
