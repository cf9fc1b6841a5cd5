"""What a stage pays for its batch is measured on the batches of a config."""

import re

import pytest

from tests.commands import ROOT, run_tool


@pytest.mark.dist
def test_a_batch_is_loaded_and_sent():
    config = ROOT / 'configs/infopro_deeplabv3_r18_streets.py'
    small = ['train_dataloader.dataset.size=(64,128)', 'total_batch_size=2']
    done = run_tool(
        *('analysis/pipeline_batch.py', config, '--batches', 2),
        *('--cfg-options', *small),
    )
    assert done.returncode == 0, done.stderr
    said = re.findall(r'^(\w+): +[\d.]+ ms', done.stdout, re.M)
    assert said == ['loaded', 'sent', 'received']
    assert done.stdout.startswith('a batch of 2 images\n')


def test_no_batch_is_refused():
    done = run_tool('analysis/pipeline_batch.py', 'a.py', '--batches', 0)
    assert done.returncode == 2
    assert '--batches 0 must be 1 or more' in done.stderr
