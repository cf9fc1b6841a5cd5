"""What the tools load, and from where they go on."""

import contextlib
import functools
import os
import pickle

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.runner import checkpoint as checkpoint_module
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint

from infopro_seg.checkpoints.export import find_checkpoint
from infopro_seg.checkpoints.files import read_checkpoint
from infopro_seg.checkpoints.loading import (
    load_anywhere,
    require_checkpoint,
    resume_last_checkpoint,
    weights_only_loading,
)
from infopro_seg.cli import test
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


@pytest.fixture
def with_loader():
    """Registers a loader of the user's, as a module of custom_imports does."""
    schemes = dict(CheckpointLoader._schemes)

    def register(load):
        def load_from_mine(filename, map_location=None):
            return load(filename.removeprefix('mine://'))

        CheckpointLoader.register_scheme('mine://', load_from_mine, force=True)

    yield register
    CheckpointLoader._schemes.clear()
    CheckpointLoader._schemes.update(schemes)


#: What loaders of users may call; the first and the last run code, if they may.
CALLS = {
    'everything': functools.partial(torch.load, weights_only=False),
    'weights': functools.partial(torch.load, weights_only=True),
    'unsaid': torch.load,
}


@pytest.mark.parametrize('registered', ['before', 'meanwhile'])
@pytest.mark.parametrize('call', CALLS)
def test_no_loader_of_checkpoints_can_run_code(stranger, with_loader, call, registered):
    path, proof = stranger
    if registered == 'before':
        with_loader(CALLS[call])
    with weights_only_loading():
        if registered == 'meanwhile':
            with_loader(CALLS[call])
        with pytest.raises(ValueError, match='mine://.*--trust-checkpoint'):
            load_checkpoint(torch.nn.Linear(1, 1), f'mine://{path}')
    assert not proof.exists()


class Stored(torch.utils.data.Dataset):
    """A data set of a user's, of samples that are more than weights."""

    def __init__(self, path, call):
        self.path, self.call = path, call

    def __len__(self):
        return 1

    def __getitem__(self, index):
        try:
            CALLS[self.call](self.path)
        except pickle.UnpicklingError:
            return 'refused'
        return 'read'


@pytest.mark.parametrize('num_workers', [0, 1])
@pytest.mark.parametrize('trust', [False, True])
@pytest.mark.parametrize('call', CALLS)
def test_what_a_data_set_reads_is_its_own_affair(stranger, call, trust, num_workers):
    # torch.load(f, weights_only=False) is what torch and the host's users write.
    path, proof = stranger
    plain = proof.with_name('plain.pth')
    checkpoint(plain)
    loader = torch.utils.data.DataLoader(Stored(path, call), num_workers=num_workers)
    stock = list(loader)
    assert proof.exists() is (call == 'everything')
    with weights_only_loading(trust_pickle=trust):
        CheckpointLoader.load_checkpoint(os.fspath(plain))
        if proof.exists():
            proof.rmdir()
        assert list(loader) == stock


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


def test_trust_reaches_loaders_that_leave_the_choice_to_torch(stranger, with_loader):
    # As those of mmengine 0.10.7, which no checkpoint of mmengine passes otherwise.
    path, proof = stranger
    with_loader(torch.load)
    with pytest.raises(pickle.UnpicklingError):
        CheckpointLoader.load_checkpoint(f'mine://{path}')
    with weights_only_loading(trust_pickle=True):
        CheckpointLoader.load_checkpoint(f'mine://{path}')
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
    stock = CheckpointLoader.load_checkpoint
    with weights_only_loading():
        assert dict(CheckpointLoader._schemes) != schemes
        assert CheckpointLoader.load_checkpoint != stock
        assert FORCE not in os.environ
    assert dict(CheckpointLoader._schemes) == schemes
    assert CheckpointLoader.load_checkpoint == stock
    assert FORCE not in os.environ


NAMES = [
    'a.pth',
    '~/a.pth',
    '/a/b.pth',
    'https://x/y.pth',
    'http://x/y.pth',
    's3://x/y.pth',
    'cluster:s3://x/y.pth',
    'open-mmlab://resnet18',
    'torchvision://resnet18',
    'mmcls://resnet18',
    'mine://y.pth',
]


@pytest.mark.parametrize('is_active', [False, True])
@pytest.mark.parametrize('name', NAMES)
def test_the_disk_is_asked_only_for_what_the_host_reads_there(
    tmp_path, monkeypatch, with_loader, name, is_active
):
    with_loader(torch.load)
    monkeypatch.setenv('HOME', str(tmp_path))
    stock = CheckpointLoader._get_checkpoint_loader(name).__name__
    on_disk = stock == 'load_from_local'
    refused = contextlib.nullcontext()
    if on_disk:
        refused = pytest.raises(FileNotFoundError, match=f'{name} does not exist')
    with weights_only_loading() if is_active else contextlib.nullcontext(), refused:
        require_checkpoint(name)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('is_there', [True, False])
def test_a_test_starts_with_whatever_the_host_can_load(
    tmp_path, monkeypatch, with_loader, name, is_there
):
    class Runs:
        @staticmethod
        def from_cfg(cfg):
            raise InterruptedError(cfg.load_from)

    with_loader(torch.load)
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.chdir(tmp_path)
    if name == '/a/b.pth':
        name = str(tmp_path / 'b.pth')
    if is_there and '://' not in name:
        checkpoint(os.path.expanduser(name))
    (tmp_path / 'config.py').write_text("model = dict(type='EncoderDecoder')\n")
    monkeypatch.setattr('infopro_seg.cli.test.Runner', Runs)
    monkeypatch.setattr('sys.argv', ['test.py', 'config.py', name])
    goes_on = is_there or '://' in name
    with pytest.raises(InterruptedError if goes_on else FileNotFoundError, match=name):
        test.main()


def test_a_checkpoint_is_exported_from_wherever_the_host_loads_it(
    tmp_path, with_loader, stranger
):
    with_loader(torch.load)
    weights = {'a': torch.ones(2)}
    torch.save({'state_dict': weights}, tmp_path / 'a.pth')
    name = f'mine://{tmp_path}/a.pth'
    assert find_checkpoint(Config({}), str(tmp_path), name) == name
    for place in (name, tmp_path / 'a.pth'):
        assert torch.equal(load_anywhere(place)['state_dict']['a'], weights['a'])
    path, proof = stranger
    with pytest.raises(ValueError, match='--trust-checkpoint'):
        load_anywhere(f'mine://{path}')
    assert not proof.exists()
    torch.save({'a': 1}, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='mine://.*holds no state dict'):
        load_anywhere(name)
    load_anywhere(f'mine://{path}', trust_pickle=True)
    assert proof.exists()


def test_what_reads_files_alone_says_so():
    with pytest.raises(FileNotFoundError, match='https://x/y.pth is not on disk'):
        read_checkpoint('https://x/y.pth')


def test_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    torch.save({'a': torch.ones(1)}, tmp_path / 'a.pth')
    for read in (read_checkpoint, load_anywhere):
        assert list(read('~/a.pth')['state_dict']) == ['a']


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


@pytest.mark.parametrize('launcher', ['none', 'pytorch'])
def test_only_the_first_process_speaks(tmp_path, capsys, monkeypatch, launcher):
    monkeypatch.setenv('RANK', '1')
    cfg = Config({'work_dir': str(tmp_path), 'launcher': launcher})
    resume_last_checkpoint(cfg)
    assert (capsys.readouterr().out == '') is (launcher != 'none')


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


def archived(folder, name):
    """A checkpoint of weights alone, the last that the host wrote."""
    torch.save({'state_dict': {}, 'message_hub': {}, 'meta': {}}, folder / name)
    (folder / 'last_checkpoint').write_text(str(folder / name))


def two_hooks(folder, **archive):
    """A config with a second checkpoint hook, which by default keeps weights alone."""
    second = {'save_optimizer': False, 'filename_tmpl': 'archive_{}.pth', **archive}
    hooks = {
        # That of the host is the one called checkpoint, wherever it stands.
        'archive': {'type': 'CheckpointHook', **second},
        'checkpoint': {'type': 'CheckpointHook', 'filename_tmpl': 'kept_{}.pth'},
    }
    return Config({'work_dir': str(folder), 'default_hooks': hooks})


def test_an_archive_of_weights_is_not_resumed_from(tmp_path, capsys):
    checkpoint(tmp_path / 'kept_2.pth')
    archived(tmp_path, 'archive_3.pth')
    cfg = two_hooks(tmp_path)
    resume_last_checkpoint(cfg)
    assert cfg.load_from == str(tmp_path / 'kept_2.pth')
    assert 'left out' not in capsys.readouterr().out
    assert find_checkpoint(cfg, str(tmp_path), None) == tmp_path / 'kept_2.pth'


def test_a_run_that_has_only_archived_weights_starts_anew(tmp_path):
    archived(tmp_path, 'archive_1.pth')
    cfg = two_hooks(tmp_path)
    resume_last_checkpoint(cfg)
    assert not cfg.resume


@pytest.mark.parametrize('out_dir', [None, 'elsewhere'])
def test_any_hook_that_saves_the_optimizer_counts(tmp_path, out_dir):
    folder = tmp_path / 'run'
    place = folder if out_dir is None else tmp_path / out_dir / 'run'
    folder.mkdir()
    place.mkdir(parents=True, exist_ok=True)
    checkpoint(folder / 'kept_2.pth', saved_at=1.0, iter=2)
    checkpoint(place / 'archive_3.pth', saved_at=2.0, iter=3)
    settings = {} if out_dir is None else {'out_dir': str(tmp_path / out_dir)}
    cfg = two_hooks(folder, save_optimizer=True, **settings)
    resume_last_checkpoint(cfg)
    assert cfg.load_from == str(place / 'archive_3.pth')
