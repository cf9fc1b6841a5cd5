"""Contract: a pipeline ends with the very weights of the sequential run."""

import functools

import numpy as np
import pytest
import torch

from infopro_seg.checkpoints.files import read_checkpoint
from tests.engine.runs import assert_same_checkpoint
from tests.pipeline.runs import CASES, train, train_all
from tests.processes import start
from tests.samples import some_of

pytestmark = pytest.mark.dist

#: Tried by `make test`; all processes of a list are started once.
SAMPLE = ('accumulation', 'monitored', 'sizes')


@pytest.fixture(scope='module')
def pipelined(tmp_path_factory):
    @functools.cache
    def trained(cases):
        folder = tmp_path_factory.mktemp('two_stages')
        start(train_all, (folder, cases, 2, 2), 2)
        return folder

    rest = tuple(case for case in CASES if case not in SAMPLE)
    return lambda case: trained(SAMPLE if case in SAMPLE else rest) / case


@pytest.mark.parametrize('case', some_of(CASES, *SAMPLE))
def test_two_stages_write_the_checkpoints_of_one_process(pipelined, case, tmp_path):
    runner = train(tmp_path / 'run', case, 2)
    stages = pipelined(case)
    files = sorted(path.name for path in (tmp_path / 'run').glob('*.pth'))
    assert files == sorted(path.name for path in stages.glob('iter_*.pth'))
    assert files
    for name in files:
        assert_same_checkpoint(tmp_path / 'run' / name, stages / name)
        logs = [
            read_checkpoint(path / name)['message_hub']['log_scalars']
            for path in (tmp_path / 'run', stages)
        ]
        assert logs[0].keys() == logs[1].keys()
        for key, values in logs[0].items():
            if 'loss' in key or 'grad_norm' in key:
                assert np.array_equal(values.data, logs[1][key].data), key
    # In the end every process has the whole network.
    for rank in range(2):
        weights = torch.load(stages / f'{rank}.pth')
        for name, value in runner.model.state_dict().items():
            assert torch.equal(weights[name], value), (rank, name)
