"""A process that has trained is alone when its interpreter ends.

A thread of gloo that lets go of a tensor at that moment aborts it, once in some hundred
runs: what is left of the process group is looked for, therefore.
"""

import os
import sys
from pathlib import Path

import pytest

from infopro_seg.cli import test as test_command
from infopro_seg.cli import train as train_command
from tests.distributed.test_dist_train import CONFIG, free_port
from tests.processes import start

TASKS = Path('/proc/self/task')
pytestmark = pytest.mark.skipif(not TASKS.is_dir(), reason='needs /proc')


def threads_of_gloo():
    names = [(task / 'comm').read_text() for task in TASKS.iterdir()]
    return [name for name in names if 'gloo' in name]


def run_and_look(rank, folder, ports, local):
    os.chdir(folder)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE='2',
        MASTER_ADDR='127.0.0.1',
        MASTER_PORT=str(ports[0]),
        CUDA_VISIBLE_DEVICES='',
        OMP_NUM_THREADS='1',
    )
    launched = ('--launcher', 'pytorch')
    sys.argv = ['train.py', 'tiny.py', *launched, '--local', local]
    train_command.main()
    assert not threads_of_gloo()
    os.environ['MASTER_PORT'] = str(ports[1])
    sys.argv = ['test.py', 'tiny.py', 'work_dirs/tiny/iter_2.pth', *launched]
    test_command.main()
    assert not threads_of_gloo()


@pytest.mark.dist
@pytest.mark.parametrize('local', ['num_modules=2', 'pipeline=2'])
def test_no_thread_of_the_process_group_is_left(local, tmp_path):
    (tmp_path / 'tiny.py').write_text(CONFIG)
    start(run_and_look, (tmp_path, (free_port(), free_port()), local), num_processes=2)
    assert (tmp_path / 'work_dirs/tiny/iter_2.pth').exists()
