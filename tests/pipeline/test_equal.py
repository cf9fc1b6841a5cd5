"""Contract: a pipeline ends with the very weights of the sequential run."""

import numpy as np
import pytest
import torch

from infopro_seg.checkpoints.files import read_checkpoint
from tests.engine.runs import assert_same_checkpoint
from tests.pipeline.runs import CASES, train, train_all
from tests.processes import start

pytestmark = pytest.mark.dist


@pytest.fixture(scope='module')
def pipelined(tmp_path_factory):
    folder = tmp_path_factory.mktemp('two_stages')
    start(train_all, (folder, list(CASES), 2, 2), 2)
    return folder


@pytest.mark.parametrize('case', CASES)
def test_two_stages_write_the_checkpoints_of_one_process(pipelined, case, tmp_path):
    runner = train(tmp_path / 'run', case, 2)
    files = sorted(path.name for path in (tmp_path / 'run').glob('*.pth'))
    assert files == sorted(path.name for path in (pipelined / case).glob('iter_*.pth'))
    assert files
    for name in files:
        assert_same_checkpoint(tmp_path / 'run' / name, pipelined / case / name)
        logs = [
            read_checkpoint(path / name)['message_hub']['log_scalars']
            for path in (tmp_path / 'run', pipelined / case)
        ]
        assert logs[0].keys() == logs[1].keys()
        for key, values in logs[0].items():
            if 'loss' in key or 'grad_norm' in key:
                assert np.array_equal(values.data, logs[1][key].data), key
    # In the end every process has the whole network.
    for rank in range(2):
        weights = torch.load(pipelined / case / f'{rank}.pth')
        for name, value in runner.model.state_dict().items():
            assert torch.equal(weights[name], value), (rank, name)
