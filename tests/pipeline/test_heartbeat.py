"""A process that gives no sign of life is named, and only such a one."""

import re

from infopro_seg.pipeline.heartbeat import Pulse

NAMES = {0: 'stage 1 (process 0)', 1: 'stage 0 (process 1)'}


class MemoryStore(dict):
    """A store in one process."""

    def set(self, key, value):
        self[key] = value.encode()

    def get(self, key):
        return self[key]


def both():
    store = MemoryStore()
    pulses = [Pulse(NAMES, rank, store, patience=60) for rank in range(2)]
    for pulse in pulses:
        pulse.beat()
    return pulses


def test_whoever_signs_is_not_lost():
    first, second = both()
    for now in range(0, 1000, 50):
        second.beat()
        assert first.lost(now) is None


def test_whoever_does_not_sign_is_lost_after_a_while():
    first, second = both()
    assert first.lost(100.0) is None
    assert first.lost(159.0) is None
    told = r'stage 0 \(process 1\) has given no sign of life for 61 s: .* --resume'
    assert re.match(told, first.lost(161.0))
    # One sign, and all is well.
    second.beat()
    assert first.lost(162.0) is None


def test_whoever_has_finished_is_not_lost():
    first, second = both()
    first.lost(0.0)
    second.stop()
    assert first.lost(10.0) is None
    assert first.lost(1000.0) is None
