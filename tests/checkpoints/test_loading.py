"""What the tools load, and from where they go on."""

import contextlib
import os
import pickle

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.runner import checkpoint as checkpoint_module
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint

from infopro_seg.checkpoints.export import find_checkpoint
from infopro_seg.checkpoints.loading import resume_last_checkpoint, weights_only_loading
from infopro_seg.settings import LocalSettings
from infopro_seg.settings.plan import Plan
from tests.checkpoints.test_files import Payload

FORCE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'


@pytest.fixture
def stranger(tmp_path):
    """A checkpoint that makes a folder when it is unpickled, and that folder."""
    path, proof = tmp_path / 'stranger.pth', tmp_path / 'ran'
    torch.save({'state_dict': {}, 'extra': Payload(proof)}, path)
    return str(path), proof


@pytest.mark.skipif(
    not hasattr(checkpoint_module, '_safe_torch_load'),
    reason='mmengine 0.10.7 leaves it to torch, which refuses since 2.6',
)
def test_the_host_would_run_the_code(stranger):
    path, proof = stranger
    CheckpointLoader.load_checkpoint(path)
    assert proof.exists()


def test_a_stranger_is_refused_with_an_explanation(stranger):
    path, proof = stranger
    model = torch.nn.Linear(1, 1)
    with (
        weights_only_loading(),
        pytest.raises(ValueError, match='stranger.pth .*code.*--trust-checkpoint'),
    ):
        load_checkpoint(model, path)
    assert not proof.exists()


def test_other_loaders_cannot_run_code_either(stranger):
    path, proof = stranger
    with weights_only_loading(), pytest.raises(Exception, match='[Ww]eights'):
        torch.load(path, weights_only=False)
    assert not proof.exists()


def test_a_download_is_refused_with_an_explanation(stranger, monkeypatch):
    path, proof = stranger
    monkeypatch.setattr(
        'mmengine.runner.checkpoint.load_url', lambda *_, **__: torch.load(path)
    )
    with (
        weights_only_loading(),
        pytest.raises(ValueError, match='https://x/y.pth.*--trust-checkpoint'),
    ):
        CheckpointLoader.load_checkpoint('https://x/y.pth')
    assert not proof.exists()


def test_trust_is_explicit(stranger):
    path, proof = stranger
    with weights_only_loading(trust_pickle=True):
        CheckpointLoader.load_checkpoint(path)
    assert proof.exists()


def test_trust_reaches_loaders_that_leave_the_choice_to_torch(stranger):
    # As those of mmengine 0.10.7, which no checkpoint of mmengine passes otherwise.
    path, proof = stranger
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path)
    with weights_only_loading(trust_pickle=True):
        torch.load(path)
    assert proof.exists()


@pytest.mark.parametrize('name', ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', FORCE])
@pytest.mark.parametrize('trust', [False, True])
def test_what_the_environment_says_does_not_count(stranger, monkeypatch, name, trust):
    # torch raises an error of its own if both are set.
    monkeypatch.setenv(name, '1')
    path, proof = stranger
    refused = contextlib.nullcontext() if trust else pytest.raises(ValueError)
    with refused, weights_only_loading(trust_pickle=trust):
        CheckpointLoader.load_checkpoint(path)
    assert proof.exists() is trust
    assert os.environ[name] == '1'


def test_loading_is_the_hosts_again_afterwards():
    schemes = dict(CheckpointLoader._schemes)
    with weights_only_loading():
        assert dict(CheckpointLoader._schemes) != schemes
    assert dict(CheckpointLoader._schemes) == schemes
    assert 'TORCH_FORCE_WEIGHTS_ONLY_LOAD' not in os.environ


def checkpoint(path, **meta):
    entries = ('state_dict', 'optimizer', 'message_hub')
    torch.save({**{key: {} for key in entries}, 'meta': meta}, path)


def test_the_last_whole_checkpoint_is_named_and_what_was_left_out(tmp_path, capsys):
    checkpoint(tmp_path / 'iter_900.pth')
    checkpoint(tmp_path / 'iter_1000.pth')
    (tmp_path / 'iter_2000.pth').write_bytes(b'half')
    cfg = Config({'work_dir': str(tmp_path), 'load_from': 'pretrained.pth'})
    resume_last_checkpoint(cfg)
    message = capsys.readouterr().out
    assert cfg.resume
    assert cfg.load_from == str(tmp_path / 'iter_1000.pth')
    assert 'left out: ' in message
    assert 'iter_2000.pth cannot be read' in message
    assert 'resuming from ' in message


def test_without_a_checkpoint_training_starts_anew(tmp_path, capsys):
    cfg = Config({'work_dir': str(tmp_path), 'load_from': 'pretrained.pth'})
    resume_last_checkpoint(cfg)
    assert 'training starts at iteration 0' in capsys.readouterr().out
    assert not cfg.resume
    assert cfg.load_from == 'pretrained.pth'


PLAN = Plan(
    splits=('layer1.0',),
    recompute=('stem',),
    predicted_peak_bytes=1,
    end_to_end_every=1,
)


@pytest.mark.parametrize('earlier', [None, 1, 4])
@pytest.mark.parametrize(
    ('local', 'recompute', 'period'),
    [
        # A plan may have been made anew since; without a file it would be made again.
        ({'plan': PLAN}, ['layer2.0'], 'earlier'),
        ({'gpu_memory': '8GiB'}, ['layer2.0'], 'earlier'),
        ({'gpu_memory': '8GiB', 'end_to_end_every': 2}, ['layer2.0'], 2),
        # Nothing but the splits was chosen for the run.
        ({'num_modules': 2}, [], None),
        ({'num_modules': 2, 'recompute': ['stem']}, ['stem'], None),
        ({'num_modules': 2, 'end_to_end_every': 8}, [], 8),
    ],
)
def test_a_run_goes_on_with_what_was_chosen_for_it(
    tmp_path, local, recompute, period, earlier
):
    cut = {'splits': ['layer3.0'], 'recompute': ['layer2.0']}
    if earlier is not None:
        cut['end_to_end_every'] = earlier
    checkpoint(tmp_path / 'iter_1.pth', local=cut)
    model = {'type': 'InfoProEncoderDecoder', 'local': local}
    cfg = Config({'work_dir': str(tmp_path), 'model': model})
    resume_last_checkpoint(cfg)
    settings = LocalSettings.parse(cfg.model.local)
    assert settings.splits == ('layer3.0',)
    assert list(settings.recompute) == recompute
    assert settings.end_to_end_every == (earlier if period == 'earlier' else period)


def test_splits_of_the_config_stay(tmp_path):
    checkpoint(tmp_path / 'iter_1.pth', local={'splits': ['a'], 'recompute': []})
    local = {'splits': ['b'], 'end_to_end_every': 2}
    model = {'type': 'InfoProEncoderDecoder', 'local': local}
    cfg = Config({'work_dir': str(tmp_path), 'model': model})
    resume_last_checkpoint(cfg)
    assert cfg.model.local == local


def test_a_run_with_only_damaged_checkpoints_is_not_started_again(tmp_path):
    (tmp_path / 'iter_2000.pth').write_bytes(b'half')
    with pytest.raises(RuntimeError, match=r'(?s)can be used.*iter_2000.*--work-dir'):
        resume_last_checkpoint(Config({'work_dir': str(tmp_path)}))


def test_only_the_first_process_speaks(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    resume_last_checkpoint(Config({'work_dir': str(tmp_path)}))
    assert capsys.readouterr().out == ''


def test_another_folder_of_the_hook_is_searched(tmp_path):
    (tmp_path / 'out' / 'run').mkdir(parents=True)
    checkpoint(tmp_path / 'out' / 'run' / 'iter_5.pth')
    hook = {'type': 'SafeCheckpointHook', 'out_dir': str(tmp_path / 'out')}
    cfg = Config(
        {'work_dir': str(tmp_path / 'run'), 'default_hooks': {'checkpoint': hook}}
    )
    resume_last_checkpoint(cfg)
    assert cfg.load_from == str(tmp_path / 'out' / 'run' / 'iter_5.pth')


@pytest.mark.parametrize(
    'template',
    ['ckpt_{}.pth', '{:05d}.pth', 'a+b (c) [d]_{}.pt', 'latest.pth', None],
)
@pytest.mark.parametrize('folder', ['final', 'runs[1]/2', 'x{}', 'with blanks é/'])
@pytest.mark.parametrize('out_dir', [None, 'elsewhere'])
@pytest.mark.parametrize('where', ['default_hooks', 'custom_hooks'])
def test_whatever_a_run_calls_its_checkpoints_they_are_found(
    tmp_path, template, folder, out_dir, where
):
    work_dir = f'{tmp_path}/{folder}'
    hook = {'type': CheckpointHook, 'filename_tmpl': template}
    place = work_dir
    if out_dir is not None:
        hook['out_dir'] = str(tmp_path / out_dir)
        place = tmp_path / out_dir / os.path.basename(os.path.abspath(work_dir))
    os.makedirs(work_dir)
    os.makedirs(place, exist_ok=True)
    file = os.path.join(place, (template or 'epoch_{}.pth').format(3))
    checkpoint(file)
    hooks = {'checkpoint': hook} if where == 'default_hooks' else (hook,)
    cfg = Config({'work_dir': work_dir, where: hooks})
    resume_last_checkpoint(cfg)
    assert os.path.samefile(cfg.load_from, file)
    # A work dir says the same to the export, from wherever it is called.
    cfg.work_dir = 'of another machine'
    assert find_checkpoint(cfg, work_dir, None).samefile(file)
