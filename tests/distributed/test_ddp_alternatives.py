"""The script behind results/distributed.md runs, and its methods train the same."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name('ddp_alternatives.py')


@pytest.mark.dist
@pytest.mark.exhaustive
def test_all_methods_give_the_gradients_of_the_hook():
    done = subprocess.run(
        [sys.executable, SCRIPT, '--steps', '2', '--crop', '64'],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    rows = re.findall(r'^([a-z-]+) .* (\S+) +(\S+)$', done.stdout, re.MULTILINE)
    rows = {name: (peak, difference) for name, peak, difference in rows}
    for name in ('reducers', 'hand-out', 'summed'):
        assert float(rows[name][1]) == 0.0
    assert {'hook', 'stock'} < rows.keys()
    assert all(float(rows[name][0]) > 100 for name in ('hook', 'stock'))
