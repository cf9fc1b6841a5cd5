"""tools/dist_train.sh and slurm_train.sh, as a user would type them."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from infopro_seg.checkpoints.files import read_checkpoint

ROOT = Path(__file__).resolve().parents[2]
CONFIG = f"""
_base_ = '{ROOT}/configs/infopro_deeplabv3_r18_streets.py'
model = dict(
    data_preprocessor=dict(size=(64, 128)),
    backbone=dict(stem_channels=8, base_channels=8),
    decode_head=dict(in_channels=64, channels=8),
    auxiliary_head=dict(in_channels=32, channels=8))
total_batch_size = 4
train_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(size=(64, 128)))
val_dataloader = dict(
    num_workers=0, persistent_workers=False,
    dataset=dict(size=(64, 128), num_scenes=4))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=2, val_interval=2)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1))
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def environment(on_gpu=False, **variables):
    hidden = {} if on_gpu else {'CUDA_VISIBLE_DEVICES': ''}
    return {
        **os.environ,
        'PYTHON': sys.executable,
        'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
        'PORT': str(free_port()),
        'OMP_NUM_THREADS': '1',
        **hidden,
        **variables,
    }


def dist_train(folder, *args, num_processes=2, on_gpu=False):
    done = subprocess.run(
        [str(ROOT / 'tools' / 'dist_train.sh'), 'tiny.py', str(num_processes), *args],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=environment(on_gpu),
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return done.stdout + done.stderr


def train_on_machines(folders, *args):
    """tools/dist_train.sh once per folder, as on machines of one process each.

    Returns:
        Exit code and output of each.
    """
    settings = environment(MASTER_ADDR='127.0.0.1', NNODES=str(len(folders)))
    machines = [
        subprocess.Popen(
            [str(ROOT / 'tools' / 'dist_train.sh'), 'tiny.py', '1', *args],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**settings, 'NODE_RANK': str(rank)},
        )
        for rank, folder in enumerate(folders)
    ]
    said = [machine.communicate()[0] for machine in machines]
    return [machine.returncode for machine in machines], said


@pytest.mark.dist
@pytest.mark.exhaustive
def test_two_processes_train_validate_and_resume(tmp_path):
    (tmp_path / 'tiny.py').write_text(CONFIG)
    # torch's launcher takes --local for one of its own options, unless told otherwise.
    said = dist_train(tmp_path, '--local', 'lean_loss=False')
    assert re.search(r'Iter\(train\) \[2/2\].*local_0.loss_recon', said)
    assert re.search(r'Iter\(val\) .*mIoU', said)
    work_dir = tmp_path / 'work_dirs' / 'tiny'
    checkpoint = read_checkpoint(work_dir / 'iter_2.pth')
    assert len(checkpoint['random_states']) == 2
    said = dist_train(tmp_path, '--resume', '--cfg-options', 'train_cfg.max_iters=3')
    assert said.count('resuming from work_dirs/tiny/iter_2.pth') == 1
    assert 'Iter(train) [3/3]' in said
    assert 'Iter(train) [2/3]' not in said


@pytest.mark.dist
@pytest.mark.exhaustive
def test_two_machines_of_one_process_train_as_one_of_two(tmp_path):
    one, *two = folders = [tmp_path / name for name in ('one', 'first', 'second')]
    for folder in folders:
        folder.mkdir()
        (folder / 'tiny.py').write_text(CONFIG)
    dist_train(one)
    codes, said = train_on_machines(two)
    assert codes == [0, 0], said
    assert re.search(r'Iter\(val\) .*mIoU', said[0])
    name = 'work_dirs/tiny/iter_2.pth'
    whole, parts = (read_checkpoint(x / name) for x in (one, two[0]))
    assert list(whole['state_dict']) == list(parts['state_dict'])
    for key, value in whole['state_dict'].items():
        assert torch.equal(parts['state_dict'][key], value), key
    assert len(parts['random_states']) == 2
    # The second machine has a disk of its own, without the checkpoint.
    assert not (two[1] / name).exists()
    codes, said = train_on_machines(
        two, '--resume', '--cfg-options', 'train_cfg.max_iters=3'
    )
    assert 0 not in codes
    message = 'process 1 starts at iteration 0, process 0 at 2: --resume finds other'
    assert all(message in text for text in said)
    assert not (two[0] / 'work_dirs/tiny/iter_3.pth').exists()


SRUN = """#!{python}
# Writes down its arguments and starts as many processes of the command as it is told.
import json, os, subprocess, sys

json.dump(sys.argv[1:], open('srun.json', 'w'))
number = next(a.partition('=')[2] for a in sys.argv if a.startswith('--ntasks='))
command = sys.argv[sys.argv.index({python!r}) :]
base = dict(os.environ, SLURM_NTASKS=number, SLURM_NNODES='1')
started = [
    subprocess.Popen(command, env=dict(base, SLURM_PROCID=str(i), SLURM_LOCALID=str(i)))
    for i in range(int(number))
]
sys.exit(max(process.wait() for process in started))
"""


def slurm(folder, tool, *args, **variables):
    """Run a script with a stand-in for srun; returns its exit code and output."""
    (folder / 'srun').write_text(SRUN.format(python=sys.executable))
    (folder / 'srun').chmod(0o755)
    settings = environment(**variables)
    settings['PATH'] = f'{folder}:{settings["PATH"]}'
    done = subprocess.run(
        [str(ROOT / 'tools' / tool), *args],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=settings,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ('tool', 'variables', 'expected'),
    [
        (
            'slurm_train.sh',
            {},
            '--gres=gpu:4 --ntasks=4 --ntasks-per-node=4 --cpus-per-task=5',
        ),
        (
            'slurm_train.sh',
            {'GPUS': '2'},
            '--gres=gpu:2 --ntasks=2 --ntasks-per-node=2 --cpus-per-task=5',
        ),
        (
            'slurm_test.sh',
            {'GPUS': '16', 'GPUS_PER_NODE': '8', 'CPUS_PER_TASK': '3'},
            '--gres=gpu:8 --ntasks=16 --ntasks-per-node=8 --cpus-per-task=3',
        ),
    ],
)
def test_what_srun_is_asked_for(tmp_path, tool, variables, expected):
    checkpoint = ['weights.pth'] * (tool == 'slurm_test.sh')
    settings = {'PYTHON': 'true', 'SRUN_ARGS': '--qos=high --time=1:00', **variables}
    options = ['--cfg-options', 'model.pretrained=a file.pth']
    # A command that is no Python of ours is not started by the stand-in.
    slurm(tmp_path, tool, 'gpu', 'my job', 'a.py', *checkpoint, *options, **settings)
    assert json.loads((tmp_path / 'srun.json').read_text()) == [
        *('--partition=gpu', '--job-name=my job', *expected.split()),
        *('--kill-on-bad-exit=1', '--qos=high', '--time=1:00', 'true', '-u'),
        str(ROOT / 'tools' / tool.replace('slurm_', '').replace('.sh', '.py')),
        *('a.py', *checkpoint, *options, '--launcher', 'slurm'),
    ]


@pytest.mark.parametrize(
    ('tool', 'count'), [('slurm_train.sh', 2), ('slurm_test.sh', 3)]
)
def test_slurm_scripts_say_what_they_take(tmp_path, tool, count):
    code, said = slurm(tmp_path, tool, *['x'] * count)
    assert code == 2
    assert f'tools/{tool} PARTITION JOB_NAME CONFIG' in said
    assert 'SRUN_ARGS' in said
    assert not (tmp_path / 'srun.json').exists()


def test_without_slurm_that_is_said(tmp_path):
    done = subprocess.run(
        [str(ROOT / 'tools' / 'slurm_train.sh'), 'gpu', 'job', 'a.py'],
        capture_output=True,
        text=True,
        check=False,
        env={'PATH': '/usr/bin:/bin'},
    )
    assert done.returncode == 1
    assert done.stderr.startswith('srun is not found')


@pytest.mark.dist
@pytest.mark.exhaustive
def test_two_processes_of_slurm_train_as_those_of_torchs_launcher(tmp_path):
    # On CPUs; on GPUs the host connects the processes of Slurm.
    (tmp_path / 'tiny.py').write_text(CONFIG)
    code, said = slurm(
        tmp_path, 'slurm_train.sh', 'cpu', 'job', 'tiny.py', '--work-dir', 'x', GPUS='2'
    )
    assert code == 0, said
    dist_train(tmp_path)
    ours, theirs = (
        read_checkpoint(tmp_path / folder / 'iter_2.pth')['state_dict']
        for folder in ('x', 'work_dirs/tiny')
    )
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.dist
@pytest.mark.exhaustive
def test_a_pipeline_writes_the_weights_of_one_process(tmp_path):
    # On one machine, and on two.
    config = f'{CONFIG}\nmodel.update(local=dict(pipeline=2))\n'
    (tmp_path / 'tiny.py').write_text(config)
    said = dist_train(tmp_path)
    assert re.search(r'stage 0 \(process 1\): local_0', said)
    assert re.search(r'Iter\(train\) \[2/2\].*local_0.loss_recon', said)
    assert re.search(r'Iter\(val\) .*mIoU', said)
    said = dist_train(tmp_path, '--resume')
    assert re.search(r'(?s)its validation, which comes first.*Iter\(val\) .*mIoU', said)
    assert 'Iter(train)' not in said
    done = subprocess.run(
        [sys.executable, ROOT / 'tools/train.py', 'tiny.py', '--work-dir', 'alone'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'local.pipeline has no effect in one process' in done.stderr
    machines = [tmp_path / 'first', tmp_path / 'second']
    for folder in machines:
        folder.mkdir()
        (folder / 'tiny.py').write_text(config)
    codes, said = train_on_machines(machines)
    assert codes == [0, 0], said
    assert 'stage 0 (process 1): local_0' in said[0]
    alone = weights_of(tmp_path / 'alone')
    for folder in (tmp_path, machines[0]):
        stages = weights_of(folder / 'work_dirs/tiny')
        assert list(stages) == list(alone)
        for key, value in alone.items():
            assert torch.equal(stages[key], value), (folder.name, key)


def weights_of(work_dir):
    return read_checkpoint(work_dir / 'iter_2.pth')['state_dict']
