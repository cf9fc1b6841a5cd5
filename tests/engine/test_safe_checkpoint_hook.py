"""Checkpoints are whole or not there, and old ones go last."""

import errno
import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import FileClient, LocalBackend
from mmengine.fileio.backends import backends, prefix_to_backends
from mmengine.runner.checkpoint import CheckpointLoader

from infopro_seg.checkpoints import files as checkpoint_module
from infopro_seg.checkpoints.files import last_whole_checkpoint, read_checkpoint
from infopro_seg.checkpoints.loading import (
    resume_last_checkpoint,
    weights_only_loading,
)
from infopro_seg.engine import SafeCheckpointHook
from infopro_seg.engine.whole_file_backend import BACKEND_NAME
from tests.engine.runs import losses_in_log, resume, runner_of
from tests.engine.test_resume import VALIDATION
from tests.samples import some_of


def names(folder):
    return sorted(path.name for path in folder.iterdir() if '.pth' in path.name)


@pytest.fixture
def full_disk(monkeypatch):
    """The disk is full from the n-th file on, after half of it was written."""

    def fill(num_files):
        calls = []

        def fsync(descriptor):
            calls.append(descriptor)
            if len(calls) > num_files:
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(checkpoint_module.os, 'fsync', fsync)

    return fill


def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path, full_disk):
    full_disk(1)
    runner = runner_of(tmp_path, checkpoint={'max_keep_ckpts': 1})
    with pytest.raises(OSError, match='No space left.*iter_4.pth. Earlier.*--resume'):
        runner.train()
    assert names(tmp_path) == ['iter_2.pth']
    assert last_whole_checkpoint(tmp_path)[0] == tmp_path / 'iter_2.pth'


def test_a_full_disk_leaves_the_earlier_best_checkpoint(tmp_path, full_disk):
    # iter_2, best at 2, iter_2 with the score; then the disk is full.
    full_disk(3)
    runner = runner_of(
        tmp_path, checkpoint={'max_keep_ckpts': 1, 'save_best': 'mIoU'}, **VALIDATION
    )
    with pytest.raises(OSError, match='No space left'):
        runner.train()
    assert names(tmp_path) == ['best_mIoU_iter_2.pth', 'iter_2.pth']
    for name in names(tmp_path):
        read_checkpoint(tmp_path / name)


def test_old_checkpoints_go_when_the_new_one_is_there(tmp_path):
    runner_of(tmp_path, checkpoint={'max_keep_ckpts': 2}).train()
    assert names(tmp_path) == ['iter_4.pth', 'iter_6.pth']


def test_a_checkpoint_that_is_always_called_the_same_stays(tmp_path):
    settings = {'max_keep_ckpts': 1, 'filename_tmpl': 'latest.pth'}
    runner_of(tmp_path, iterations=4, checkpoint=settings).train()
    assert names(tmp_path) == ['latest.pth']


def test_half_written_files_of_killed_runs_are_cleared_away(tmp_path):
    left = tmp_path / '.iter_2.pth.partial'
    left.write_bytes(b'half')
    runner_of(tmp_path, iterations=1).train()
    assert not left.exists()


@pytest.mark.parametrize(
    'damage', some_of(['truncated', 'empty', 'pointer'], 'truncated')
)
def test_a_damaged_checkpoint_is_not_resumed_from(tmp_path, damage):
    runner_of(tmp_path).train()
    last = tmp_path / 'iter_6.pth'
    data = last.read_bytes()
    last.write_bytes({'truncated': data[: len(data) // 2]}.get(damage, b''))
    if damage == 'pointer':
        (tmp_path / 'last_checkpoint').write_text('')
    path, problems = last_whole_checkpoint(tmp_path)
    assert path == tmp_path / 'iter_4.pth'
    assert len(problems) == 1
    assert 'iter_6.pth cannot be read' in problems[0]
    assert resume(tmp_path).train_loop.iter == 6


def test_a_checkpoint_without_the_optimizer_is_not_resumed_from(tmp_path):
    settings = {'checkpoint': {'save_optimizer': False}}
    runner_of(tmp_path, iterations=2, **settings).train()
    assert last_whole_checkpoint(tmp_path) == (
        None,
        [f'{tmp_path}/iter_2.pth has no optimizer.'],
    )


class BucketBackend(LocalBackend):
    """Stands for an object store: what is under bucket:// is in a folder."""

    folder = None

    def _path(self, filepath):
        return str(filepath).replace('bucket://', f'{self.folder}/')

    def put(self, obj, filepath):
        super().put(obj, self._path(filepath))

    def get(self, filepath):
        return super().get(self._path(filepath))

    def isfile(self, filepath):
        return super().isfile(self._path(filepath))

    def isdir(self, filepath):
        return super().isdir(self._path(filepath))

    def remove(self, filepath):
        super().remove(self._path(filepath))


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """The folder of an object store that the host knows."""
    folder = tmp_path / 'bucket'
    monkeypatch.setattr(BucketBackend, 'folder', folder)
    for registered in (backends, prefix_to_backends):
        monkeypatch.setitem(registered, 'bucket', BucketBackend)
    monkeypatch.setattr(FileClient, '_backends', dict(FileClient._backends))
    prefixes = dict(FileClient._prefix_to_backends)
    monkeypatch.setattr(FileClient, '_prefix_to_backends', prefixes)
    FileClient.register_backend('bucket', BucketBackend, prefixes='bucket')
    # As the host reads from its object stores.
    CheckpointLoader.register_scheme(
        'bucket://',
        lambda filename, map_location: torch.load(
            BucketBackend()._path(filename), map_location
        ),
    )
    monkeypatch.chdir(tmp_path)
    yield folder
    del CheckpointLoader._schemes['bucket://']


@pytest.mark.parametrize('kind', ['CheckpointHook', 'SafeCheckpointHook'])
def test_an_object_store_gets_the_checkpoints_and_gives_them_back(
    tmp_path, bucket, kind
):
    # Ours wrote them to a folder that is called like the address.
    hook = {'type': kind, 'out_dir': 'bucket://models', 'max_keep_ckpts': 1}
    runner_of(tmp_path / 'run', iterations=4, checkpoint=hook).train()
    assert names(bucket / 'models' / 'run') == ['iter_4.pth']
    assert {path.name for path in tmp_path.iterdir()} == {'bucket', 'run'}
    assert names(tmp_path / 'run') == []
    note = (tmp_path / 'run' / 'last_checkpoint').read_text()
    assert note == 'bucket://models/run/iter_4.pth'
    hooks = {'checkpoint': hook}
    cfg = Config({'work_dir': str(tmp_path / 'run'), 'default_hooks': hooks})
    resume_last_checkpoint(cfg)
    settings = {'resume': cfg.resume, 'load_from': cfg.load_from}
    with weights_only_loading():
        runner = runner_of(tmp_path / 'run', name='on', checkpoint=hook, **settings)
        runner.train()
    assert runner.message_hub.get_info('iter') == 5
    assert (
        len(losses_in_log(bucket / 'models' / 'run' / 'iter_6.pth')['train/loss']) == 6
    )


@pytest.mark.parametrize(
    ('settings', 'is_whole'),
    [
        ({}, True),
        ({'out_dir': 'elsewhere'}, True),
        ({'out_dir': Path('elsewhere')}, True),
        ({'backend_args': {}}, True),
        ({'out_dir': 'elsewhere', 'backend_args': {'backend': 'local'}}, False),
        ({'out_dir': 's3://models'}, False),
        ({'out_dir': 'cluster:s3://models'}, False),
    ],
)
def test_files_are_written_whole_where_they_are_files(settings, is_whole):
    hook = SafeCheckpointHook(**settings)
    assert (hook.backend_args == {'backend': BACKEND_NAME}) == is_whole
