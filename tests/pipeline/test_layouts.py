"""More stages, replicas, and runs that go on with other numbers of processes."""

import shutil

import pytest

from tests.engine.runs import assert_same_checkpoint
from tests.pipeline.runs import FAMILY_CASES, resume_all, train, train_beside
from tests.processes import start

pytestmark = [pytest.mark.dist, pytest.mark.slow]
LAST = 'iter_4.pth'


@pytest.fixture(scope='module')
def sequential(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sequential')
    train(folder / 'run', 'resnet', 3)
    return folder / 'run'


@pytest.mark.exhaustive
def test_three_stages_end_as_one_process(sequential, tmp_path):
    start(train_beside, (tmp_path, 'resnet', 3, 3), 3)
    assert_same_checkpoint(sequential / LAST, tmp_path / 'run' / LAST)


@pytest.mark.exhaustive
@pytest.mark.parametrize('case', FAMILY_CASES)
def test_four_stages_end_as_one_process(case, tmp_path):
    train(tmp_path / 'alone', case, 4)
    start(train_beside, (tmp_path, case, 4, 4), 4)
    assert_same_checkpoint(tmp_path / 'alone' / LAST, tmp_path / 'run' / LAST)


@pytest.mark.exhaustive
@pytest.mark.parametrize('case', ['resnet', 'accumulation'])
def test_two_stages_of_two_replicas_end_as_two_processes(tmp_path, case):
    for name, stages, processes in (('two', 1, 2), ('four', 2, 4)):
        (tmp_path / name).mkdir()
        start(train_beside, (tmp_path / name, case, stages, processes), processes)
    paths = [tmp_path / name / 'run' for name in ('two', 'four')]
    names = [[path.name for path in sorted(p.glob('iter_*.pth'))] for p in paths]
    assert names[0] == names[1]
    for name in names[0]:
        assert_same_checkpoint(*(path / name for path in paths))


def half_of(run, folder):
    """The state in the middle of a run, in a new work dir."""
    (folder / 'run').mkdir(parents=True)
    shutil.copy(run / 'iter_2.pth', folder / 'run')


@pytest.mark.exhaustive
def test_a_run_goes_on_in_two_stages_as_in_one_process(sequential, tmp_path):
    half_of(sequential, tmp_path)
    start(resume_all, (tmp_path, 'resnet', 2, 2), 2)
    assert_same_checkpoint(sequential / LAST, tmp_path / 'run' / LAST)


@pytest.mark.exhaustive
def test_a_run_of_two_stages_goes_on_in_one_and_in_three(sequential, tmp_path):
    (tmp_path / 'two').mkdir()
    start(train_beside, (tmp_path / 'two', 'resnet', 2, 2), 2)
    half_of(tmp_path / 'two' / 'run', tmp_path / 'three')
    start(resume_all, (tmp_path / 'three', 'resnet', 3, 3), 3)
    assert_same_checkpoint(sequential / LAST, tmp_path / 'three' / 'run' / LAST)
    half_of(tmp_path / 'two' / 'run', tmp_path / 'one')
    train(
        tmp_path / 'one' / 'run',
        'resnet',
        3,
        name='resumed',
        load_from=str(tmp_path / 'one' / 'run' / 'iter_2.pth'),
        resume=True,
    )
    assert_same_checkpoint(sequential / LAST, tmp_path / 'one' / 'run' / LAST)
