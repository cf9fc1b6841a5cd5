"""Contract: a pipeline ends with the very weights of the sequential run."""

import pytest
import torch

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
    # In the end every process has the whole network.
    for rank in range(2):
        weights = torch.load(pipelined / case / f'{rank}.pth')
        for name, value in runner.model.state_dict().items():
            assert torch.equal(weights[name], value), (rank, name)
