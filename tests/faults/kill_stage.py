"""Stop a stage of a pipeline at a random moment, resume, compare with one process.

    python tests/faults/kill_stage.py --kills 10 --freezes 5

Each stage in turn is killed, or frozen. Nobody stops the other one: it must end by
itself, and say which stage is gone. Both are started again with --resume, and
everything in the last checkpoint must be bit-equal to that of an undisturbed run of one
process. The exit code is 0 if all are. Linux, CPU.
"""

import argparse
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.engine.runs import assert_same_checkpoint  # noqa: E402
from tests.faults.kill_and_resume import (  # noqa: E402
    CONFIG,
    LAST,
    NUM_ITERATIONS,
    finish,
    num_logged,
    start,
)

NUM_STAGES = 2
_NAMES = [
    f'stage {NUM_STAGES - 1 - rank} (process {rank})' for rank in range(NUM_STAGES)
]


def start_stages(config: Path, work_dir: Path) -> list[int]:
    """Start all stages; their process numbers, by rank."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    shared = {
        'MASTER_ADDR': '127.0.0.1',
        'MASTER_PORT': str(port),
        'WORLD_SIZE': str(NUM_STAGES),
    }
    return [
        start(
            config,
            work_dir,
            '--launcher',
            'pytorch',
            variables={**shared, 'RANK': str(rank), 'LOCAL_RANK': str(rank)},
        )
        for rank in range(NUM_STAGES)
    ]


def stop_one(
    pids: list[int], rank: int, work_dir: Path, rng: random.Random, *, freeze: bool
) -> dict:
    """Kill or freeze a stage at a random moment, and wait for the others."""
    # From the stages' first words on: until then the launcher would have to stop the
    # other, or the timeout.
    num_iterations = rng.randrange(NUM_ITERATIONS - 1)
    while num_logged(work_dir) < num_iterations or not _are_stages(work_dir):
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.5))
    os.kill(pids[rank], signal.SIGSTOP if freeze else signal.SIGKILL)
    begin = time.monotonic()
    codes = [finish(pid) for i, pid in enumerate(pids) if i != rank]
    if freeze:
        os.kill(pids[rank], signal.SIGKILL)
    finish(pids[rank])
    return {
        'frozen' if freeze else 'killed': _NAMES[rank],
        'after_iterations': num_logged(work_dir),
        'seconds_until_others_ended': round(time.monotonic() - begin, 1),
        'exit_codes_of_others': codes,
        'named': _NAMES[rank] in Path(f'{work_dir}.txt').read_text()[-3000:],
    }


def _are_stages(work_dir: Path) -> bool:
    log = Path(f'{work_dir}.txt')
    return log.exists() and all(name in log.read_text() for name in _NAMES)


def experiment(number: int, folder: Path, rng: random.Random, *, freeze: bool) -> dict:
    """One run that loses a stage and is resumed; what happened."""
    work_dir = folder / f'run_{number}'
    config = folder / 'pipeline.py'
    pids = start_stages(config, work_dir)
    result = stop_one(pids, number % NUM_STAGES, work_dir, rng, freeze=freeze)
    codes = [finish(pid) for pid in start_stages(config, work_dir)]
    difference = '' if not any(codes) else f'exit codes {codes}'
    try:
        assert_same_checkpoint(folder / 'whole' / LAST, work_dir / LAST)
    except (AssertionError, ValueError, OSError) as error:
        difference = f'{type(error).__name__}: {error}'
    return {**result, 'difference': difference}


def main() -> int:
    """Run all experiments, print one line each, and a summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--kills', type=int, default=10)
    parser.add_argument('--freezes', type=int, default=0)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / 'pipeline.py'
        local = f'dict(local=dict(pipeline={NUM_STAGES}))'
        config.write_text(f'{CONFIG}\nmodel.update({local})\n')
        if finish(start(config, folder / 'whole')):
            print((folder / 'whole.txt').read_text()[-3000:])
            return 1
        results = []
        for number in range(args.kills + args.freezes):
            freeze = number >= args.kills
            results.append(experiment(number, folder, rng, freeze=freeze))
            print(json.dumps(results[-1]), flush=True)
            if results[-1]['difference'] or not results[-1]['named']:
                print((folder / f'run_{number}.txt').read_text()[-3000:])
    num_equal = sum(not result['difference'] for result in results)
    print(f'{num_equal} of {len(results)} runs ended bit-equal to one process')
    return 0 if num_equal == len(results) else 1


if __name__ == '__main__':
    sys.exit(main())
