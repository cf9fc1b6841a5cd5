"""Break a short training run on purpose, resume it, compare with an unbroken one.

    python tests/faults/kill_and_resume.py --kills 20 --saving 5 --truncated 5

Every experiment is a run of tools/train.py in a folder of its own: kill -9 at a random
moment, or while a checkpoint is written; the last checkpoint cut off; the disk full
(--full-disk). It is resumed with --resume, and everything in its last checkpoint
(weights, their average, momentum, schedule, random generators) must be bit-equal to
that of a run that nobody disturbed. The exit code is 0 if all are. Linux, CPU.
"""

import argparse
import contextlib
import json
import os
import platform
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ['CUDA_VISIBLE_DEVICES'] = ''

import torch  # noqa: E402

from infopro_seg.checkpoints.files import last_whole_checkpoint  # noqa: E402
from infopro_seg.cli.run import run  # noqa: E402
from tests.engine.runs import assert_same_checkpoint  # noqa: E402

# Two iterations a step, a checkpoint each step, validation in between, one worker.
NUM_ITERATIONS = 12
CONFIG = f"""
_base_ = '{ROOT}/configs/infopro_deeplabv3_r18_streets.py'
model = dict(
    data_preprocessor=dict(size=(64, 128)),
    backbone=dict(stem_channels=8, base_channels=8),
    decode_head=dict(in_channels=64, channels=8),
    auxiliary_head=dict(in_channels=32, channels=8))
total_batch_size = 2
train_dataloader = dict(num_workers=1, dataset=dict(size=(64, 128)))
val_dataloader = dict(
    num_workers=0, persistent_workers=False,
    dataset=dict(size=(64, 128), num_scenes=2))
test_dataloader = val_dataloader
optim_wrapper = dict(accumulative_counts=2)
max_iters = {NUM_ITERATIONS}
param_scheduler = [
    dict(type='PolyLR', eta_min=1e-4, power=0.9, end=max_iters, by_epoch=False)]
train_cfg = dict(max_iters=max_iters, val_interval=4)
custom_hooks = [
    dict(type='LocalBackwardHook'), dict(type='CheckLabelsHook'),
    dict(type='DataGuardHook'), dict(type='CheckWeightsHook'),
    dict(type='EMAHook', momentum=0.1)]
default_hooks = dict(
    logger=dict(interval=1),
    checkpoint=dict(interval=2, max_keep_ckpts=2, save_best='mIoU'))
"""
LAST = f'iter_{NUM_ITERATIONS}.pth'


def start(
    config: Path, work_dir: Path, *more: str, variables: dict[str, str] | None = None
) -> int:
    """Train in a child process, from the last whole checkpoint if there is one.

    A fork has everything imported already: a kill hits training, not the import.

    Args:
        config: Its config.
        work_dir: Its work dir; the log goes beside it.
        more: Arguments of tools/train.py.
        variables: Of its environment.
    """
    pid = os.fork()
    if pid:
        return pid
    os.setpgid(0, 0)
    code = 1
    try:
        log = os.open(f'{work_dir}.txt', os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        torch.set_num_threads(1)
        os.environ.update(variables or {})
        command = ['train.py', str(config), '--work-dir', str(work_dir), '--resume']
        sys.argv = [*command, *more]
        code = run('train')
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def finish(pid: int) -> int:
    """Wait for a child; its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_group(pid: int) -> None:
    """kill -9, the workers too."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def kill_at(pid: int, work_dir: Path, progress: float) -> None:
    """Kill when a fraction of the iterations is done, at any moment in between."""
    target = progress * NUM_ITERATIONS
    times = [time.monotonic()]
    while len(times) <= int(target):
        if num_logged(work_dir) >= len(times):
            times.append(time.monotonic())
        time.sleep(0.002)
    # From the last log line on, at most as long as the iteration before took: that is
    # while a checkpoint is written, in validation, or in the next iteration.
    time.sleep(target % 1 * (times[-1] - times[-2] if len(times) > 1 else 1.0))
    kill_group(pid)
    if finish(pid) != -signal.SIGKILL:
        raise RuntimeError(f'{work_dir.name} had ended before it could be killed')


def num_logged(work_dir: Path) -> int:
    """Iterations in the log so far."""
    log = Path(f'{work_dir}.txt')
    return log.read_text().count('Iter(train)') if log.exists() else 0


def break_by_kill(pid: int, work_dir: Path, rng: random.Random) -> str:
    """Kill at a moment that is uniform over the iterations."""
    kill_at(pid, work_dir, rng.uniform(0, 0.95))
    return f'kill -9 after {num_logged(work_dir)} iterations'


def break_by_truncation(pid: int, work_dir: Path, rng: random.Random) -> str:
    """Kill when two checkpoints are there, then cut the last one off."""
    kill_at(pid, work_dir, rng.uniform(5 / NUM_ITERATIONS, 0.95))
    path, _ = last_whole_checkpoint(work_dir)
    kept = rng.random()
    with path.open('r+b') as file:
        file.truncate(int(kept * path.stat().st_size))
    return f'kill -9, {path.name} cut to {kept:.0%}'


def stop_while_saving(pid: int, work_dir: Path) -> None:
    """Stop a process with a checkpoint half written.

    A file that was seen may be whole by the time of a signal: the process is stopped
    first, and goes on if its file is gone.
    """
    while True:
        while not list(work_dir.glob('.*.partial')):
            pass
        os.kill(pid, signal.SIGSTOP)
        if not os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1]):
            raise RuntimeError(f'{work_dir.name} had ended before it could be killed')
        if list(work_dir.glob('.*.partial')):
            return
        os.kill(pid, signal.SIGCONT)


def break_while_saving(pid: int, work_dir: Path, rng: random.Random) -> str:
    """Kill as soon as a checkpoint that is being written is seen."""
    num_iterations = rng.randrange(1, NUM_ITERATIONS)
    while num_logged(work_dir) < num_iterations:
        time.sleep(0.005)
    stop_while_saving(pid, work_dir)
    kill_group(pid)
    if finish(pid) != -signal.SIGKILL:
        raise RuntimeError(f'{work_dir.name} had ended before it could be killed')
    return f'kill -9 in saving, after {num_logged(work_dir)} iterations'


def break_by_full_disk(pid: int, work_dir: Path, rng: random.Random) -> str:
    """From the first checkpoint on, no file can grow beyond a random size."""
    while not list(work_dir.glob('iter_*.pth')):
        time.sleep(0.01)
    num_bytes = int(
        rng.uniform(0.05, 0.95) * next(work_dir.glob('*.pth')).stat().st_size
    )
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (num_bytes, num_bytes))
    code = finish(pid)
    kill_group(pid)
    return f'no file over {num_bytes} bytes, exit code {code}'


def experiment(
    number: int, kind: Callable, folder: Path, rng: random.Random
) -> dict[str, Any]:
    """One run that is broken and resumed; what happened."""
    work_dir = folder / f'run_{number}'
    pid = start(folder / 'tiny.py', work_dir)
    what = kind(pid, work_dir, rng)
    partial = len(list(work_dir.glob('.*.partial')))
    path, problems = last_whole_checkpoint(work_dir)
    done = 0 if path is None else int(path.stem.removeprefix('iter_'))
    code = finish(start(folder / 'tiny.py', work_dir))
    difference = ''
    try:
        assert_same_checkpoint(folder / 'whole' / LAST, work_dir / LAST)
    except (AssertionError, ValueError, OSError) as error:
        difference = f'{type(error).__name__}: {error}'
    return {
        'fault': what,
        'half_written_files': partial,
        'damaged_checkpoints': len(problems),
        'resumed_from_iteration': done,
        'exit_code': code,
        'difference': difference,
    }


def main() -> int:
    """Run all experiments, print one line each, and a summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--kills', type=int, default=20)
    parser.add_argument('--saving', type=int, default=0)
    parser.add_argument('--truncated', type=int, default=0)
    parser.add_argument('--full-disk', type=int, default=0)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', type=Path, help='save what happened')
    args = parser.parse_args()
    kinds = [break_by_kill] * args.kills
    kinds += [break_while_saving] * args.saving
    kinds += [break_by_truncation] * args.truncated
    kinds += [break_by_full_disk] * args.full_disk
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / 'tiny.py').write_text(CONFIG)
        if finish(start(folder / 'tiny.py', folder / 'whole')):
            print((folder / 'whole.txt').read_text()[-3000:])
            return 1
        results = []
        for number, kind in enumerate(kinds):
            results.append(experiment(number, kind, folder, rng))
            print(json.dumps(results[-1]), flush=True)
            if results[-1]['difference']:
                print((folder / f'run_{number}.txt').read_text()[-3000:])
    num_equal = sum(not result['difference'] for result in results)
    print(f'{num_equal} of {len(results)} runs ended bit-equal to the undisturbed one')
    if args.json:
        record = {
            'date': date.today().isoformat(),
            'machine': f'{platform.machine()}, {os.cpu_count()} CPU cores',
            'torch': torch.__version__,
            'seed': args.seed,
            'experiments': results,
        }
        args.json.write_text(json.dumps(record, indent=2) + '\n')
    return 0 if num_equal == len(results) else 1


if __name__ == '__main__':
    sys.exit(main())
