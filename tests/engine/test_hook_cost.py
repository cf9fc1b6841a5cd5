"""The script behind the costs in docs/reliability.md runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name('hook_cost.py')


@pytest.mark.exhaustive
def test_it_tells_the_cost_of_the_monitor_and_of_the_loss_guard():
    done = subprocess.run(
        [sys.executable, SCRIPT, '--pairs', '2'],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    step = re.search(r'a step: ([\d.]+) s of CPU time', done.stdout)
    guard = re.search(r'loss guard: ([\d.]+)% of a step', done.stdout)
    assert float(step[1]) > 0
    assert 0 < float(guard[1]) < 100
    assert 'median of 2 pairs' in done.stdout
