"""The script that kills and resumes runs works; docs/reliability.md has its results."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name('kill_and_resume.py')


@pytest.mark.exhaustive
def test_killed_runs_end_as_if_nothing_had_happened(tmp_path):
    out = tmp_path / 'out.json'
    counts = ['--kills', '1', '--saving', '1', '--truncated', '1', '--full-disk', '1']
    done = subprocess.run(
        [sys.executable, SCRIPT, *counts, '--json', out],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert '4 of 4 runs ended bit-equal' in done.stdout
    _, saving, truncated, full = json.loads(out.read_text())['experiments']
    assert saving['half_written_files'] == 1
    assert truncated['damaged_checkpoints'] == 1
    assert full['fault'].endswith('exit code 1')


@pytest.mark.exhaustive
def test_runs_that_lose_a_stage_end_as_if_nothing_had_happened():
    script = SCRIPT.with_name('kill_stage.py')
    done = subprocess.run(
        [sys.executable, script, '--kills', '1', '--freezes', '2'],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    results = [json.loads(line) for line in done.stdout.splitlines()[:3]]
    assert all(result['named'] for result in results)
    # The first process serves the store of the others.
    assert len({result.get('frozen') for result in results}) == 3
    # It is the other one that ends by itself.
    assert all(result['exit_codes_of_others'] == [1] for result in results)
