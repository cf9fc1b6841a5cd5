"""Reading checkpoints without running code from them."""

import argparse
import collections
import datetime
import os
import pathlib
import types

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict

from infopro_seg.checkpoints.files import read_checkpoint, read_file, write_checkpoint
from tests.helpers import deeplabv3, localized
from tests.runs import run_training


class Payload:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_runners_checkpoint_with_its_log_is_read(tmp_path):
    runner = run_training(localized(deeplabv3()), tmp_path / 'run', iterations=2)
    runner.save_checkpoint(str(tmp_path), 'run.pth')
    checkpoint = read_checkpoint(tmp_path / 'run.pth')
    assert checkpoint['state_dict'].keys() == runner.model.state_dict().keys()
    log = checkpoint['message_hub']['log_scalars']['train/loss']
    assert len(log.data[0]) == 2


@pytest.mark.parametrize(
    'value',
    [
        argparse.Namespace(lr=0.1, folder=pathlib.PosixPath('/data/x')),
        {'when': datetime.datetime.now(datetime.timezone.utc)},
        {'took': datetime.timedelta(hours=3), 'day': datetime.date(2024, 2, 29)},
        ConfigDict(model={'type': 'EncoderDecoder', 'sizes': (1, 2)}),
        types.SimpleNamespace(epochs=range(3), names=frozenset('a')),
        [np.float64(3), np.ones(2, np.int32), np.random.default_rng(0).random(2)],
        [slice(1, 2), collections.Counter('aab'), 1j],
    ],
    ids=lambda value: type(value).__name__,
)
def test_settings_and_notes_beside_the_weights_are_read(tmp_path, value):
    torch.save({'model': {'w': torch.ones(1)}, 'note': value}, tmp_path / 'notes.pth')
    read = read_file(tmp_path / 'notes.pth')['note']
    assert type(read) is type(value)
    assert str(read) == str(value)


def test_code_in_a_checkpoint_is_refused_and_does_not_run(tmp_path):
    proof = tmp_path / 'ran'
    torch.save({'state_dict': {}, 'evil': Payload(proof)}, tmp_path / 'evil.pth')
    with pytest.raises(
        ValueError, match=r'evil.pth cannot be read.*--trust-checkpoint'
    ):
        read_checkpoint(tmp_path / 'evil.pth')
    assert not proof.exists()
    read_checkpoint(tmp_path / 'evil.pth', trust_pickle=True)
    assert proof.exists()


def test_getattr_in_a_checkpoint_is_refused(tmp_path):
    class Reach:
        def __reduce__(self):
            return getattr, (torch.Tensor, '__class__')

    torch.save({'state_dict': {}, 'reach': Reach()}, tmp_path / 'reach.pth')
    with pytest.raises(ValueError, match='cannot be read'):
        read_checkpoint(tmp_path / 'reach.pth')


@pytest.mark.parametrize('content', [b'', b'not a checkpoint', b'PK\x03\x04broken'])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / 'bad.pth').write_bytes(content)
    with pytest.raises(ValueError, match=r'bad.pth cannot be read'):
        read_checkpoint(tmp_path / 'bad.pth')


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none.pth does not exist'):
        read_checkpoint(tmp_path / 'none.pth')


def test_a_file_without_tensors_is_named(tmp_path):
    torch.save({'epoch': 3}, tmp_path / 'odd.pth')
    with pytest.raises(ValueError, match=r'odd.pth holds no state dict'):
        read_checkpoint(tmp_path / 'odd.pth')


def test_a_bare_state_dict_is_a_checkpoint(tmp_path):
    torch.save({'a.weight': torch.ones(2)}, tmp_path / 'bare.pth')
    state_dict = read_checkpoint(tmp_path / 'bare.pth')['state_dict']
    assert torch.equal(state_dict['a.weight'], torch.ones(2))


def test_a_failed_write_leaves_the_earlier_file(tmp_path):
    path = tmp_path / 'model.pth'
    write_checkpoint({'state_dict': {'w': torch.ones(1)}}, path, force=False)
    with pytest.raises(Exception, match='pickle'):
        write_checkpoint({'state_dict': lambda: 0}, path, force=True)
    assert read_checkpoint(path)['state_dict']['w'].item() == 1
    assert [p.name for p in tmp_path.iterdir()] == ['model.pth']
