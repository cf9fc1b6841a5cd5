"""A process that gives no sign of life is named, and only such a one."""

import os
import re
import signal
import subprocess
import sys
import threading

import pytest

from infopro_seg.pipeline import heartbeat
from infopro_seg.pipeline.heartbeat import (
    FROZEN_PATIENCE,
    PATIENCE,
    Watch,
    introduction,
    is_frozen,
)
from tests.processes import connect, start

NAMES = {0: 'stage 1 (process 0)', 2: 'stage 0 (process 2)'}
PROCESSES = {0: 'server', 1: 'this', 2: 'other'}


def watch(frozen=()):
    return Watch(NAMES, PROCESSES, frozen.__contains__)


def beats_until_lost(watch, signs=lambda _: {}):
    for count in range(1, 3 * PATIENCE):
        for rank, sign in signs(count).items():
            watch.hear(rank, sign)
        problem = watch.beat()
        if problem is not None:
            return count, problem
    return None


def counted(*ranks):
    return lambda count: {rank: str(count).encode() for rank in ranks}


def test_whoever_signs_is_not_lost():
    assert beats_until_lost(watch(frozen=['server', 'other']), counted(0, 2)) is None


def test_whoever_does_not_sign_is_lost_after_a_while():
    lonely = watch()
    count, problem = beats_until_lost(lonely, counted(0))
    assert count == PATIENCE
    told = r'stage 0 \(process 2\) has given no sign of life for 60 s: .* --resume'
    assert re.match(told, problem)
    # One sign, and all is well.
    lonely.hear(2, b'back')
    lonely.hear(0, b'back')
    assert lonely.beat() is None


def test_whoever_repeats_a_sign_has_given_none():
    count, _ = beats_until_lost(watch(), lambda _: {0: b'1', 2: b'1'})
    assert count == PATIENCE


def test_whoever_is_frozen_is_lost_soon():
    count, problem = beats_until_lost(watch(frozen=['other']), counted(0))
    assert count == FROZEN_PATIENCE
    assert re.match(r'stage 0 \(process 2\) is frozen: .* --resume', problem)


@pytest.mark.parametrize(('frozen', 'rank'), [('server', 0), ('other', 2)])
def test_the_frozen_one_is_named_where_nobody_hears_of_anybody(frozen, rank):
    count, problem = beats_until_lost(watch(frozen=[frozen]))
    assert count == FROZEN_PATIENCE
    assert problem.startswith(NAMES[rank])


class LateWatch(Watch):
    """Says when patience would have been lost a few times."""

    def __init__(self, *args):
        super().__init__(*args)
        self.num_beats, LateWatch.late = 0, threading.Event()

    def beat(self):
        self.num_beats += 1
        if self.num_beats == 3 * heartbeat.PATIENCE:
            LateWatch.late.set()
        return super().beat()


def end_late(rank, folder):
    heartbeat.INTERVAL, heartbeat.PATIENCE = 0.02, 100
    heartbeat.Watch = LateWatch
    connect(rank, folder / 'store', 2)
    beat = heartbeat.Heartbeat({0: 'first', 1: 'second'}, rank)
    if rank == 1:
        # The first has nothing left to do; this one is busy.
        LateWatch.late.wait()
    beat.stop()


@pytest.mark.dist
@pytest.mark.exhaustive
def test_whoever_has_finished_waits_for_whoever_has_not(tmp_path):
    start(end_late, (tmp_path,), 2)


@pytest.mark.skipif(sys.platform != 'linux', reason='needs /proc')
def test_a_stopped_process_of_this_machine_is_known_to_be_frozen():
    system = introduction().rpartition(' ')[0]
    with subprocess.Popen(['cat'], stdin=subprocess.PIPE) as child:
        process = f'{system} {child.pid}'
        assert not is_frozen(process)
        child.send_signal(signal.SIGSTOP)
        # It returns as soon as the child has stopped.
        assert os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1])
        assert is_frozen(process)
        # The same number on another machine is somebody else.
        assert not is_frozen(f'elsewhere {child.pid}')
        child.send_signal(signal.SIGCONT)
        child.kill()
    assert not is_frozen(process)
    assert not is_frozen(introduction())
