"""The wheel in an environment of its own, from a folder where there is no checkout."""

import os
import shutil
import site
import socket
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Before this version it needs the package wheel to build one.
pytest.importorskip('setuptools', minversion='70.1')
pytestmark = pytest.mark.slow

RESOLVE = """
from pathlib import Path
from infopro_seg.bundled import CONFIGS
from infopro_seg.settings.config import read_config

for path in sorted(CONFIGS.rglob('*.py')):
    name = path.relative_to(CONFIGS).as_posix()
    if name.startswith('_base_') or 'mmpretrain' in path.read_text():
        continue
    cfg = read_config(f'infopro_seg::{name}')
    if name.endswith(('streets.py', 'streets_r18.py', 'pspnet_r101_cityscapes.py')):
        Path('mine.py').write_text(f'_base_ = "infopro_seg::{name}"')
        assert read_config('mine.py').to_dict() == cfg.to_dict()
    print(name, cfg.model.type)
"""
SMALL = (
    *('train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'total_batch_size=4'),
    *('model.data_preprocessor.size=(64,128)', 'train_dataloader.num_workers=0'),
    *('train_dataloader.persistent_workers=False', 'val_dataloader.num_workers=0'),
    *('train_dataloader.dataset.size=(64,128)', 'val_dataloader.dataset.num_scenes=2'),
    *('val_dataloader.dataset.size=(64,128)', 'default_hooks.checkpoint.interval=2'),
    'val_dataloader.persistent_workers=False',
)
STREETS = 'infopro_seg::infopro_deeplabv3_r18_streets.py'


def run(*command, cwd):
    hidden = ('PYTHONPATH', 'INFOPRO_SEG_DEBUG')
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**kept, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''},
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout[-2000:] + done.stderr[-6000:]
    assert done.returncode == 0, f'{command}:\n{said}'
    return done.stdout


def pip(*arguments, cwd):
    run(sys.executable, '-m', 'pip', *arguments, cwd=cwd)


@pytest.fixture(scope='module')
def environment(tmp_path_factory):
    """A new environment with the wheel; all other packages are those of this one."""
    folder = tmp_path_factory.mktemp('wheel')
    source = folder / 'source'
    names = ('infopro_seg', 'configs', 'tools', 'setup.py', 'pyproject.toml')
    for name in (*names, 'README.md', 'MANIFEST.in', 'infopro_seg_command.py'):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        copy(ROOT / name, source / name)
    options = ('--no-deps', '--no-index', '--quiet')
    pip('wheel', *options, '--no-build-isolation', '-w', folder, source, cwd=folder)
    shutil.rmtree(source)
    venv.create(folder / 'env', with_pip=False)
    python = folder / 'env/bin/python'
    (wheel,) = folder.glob('*.whl')
    pip('--python', python, 'install', *options, wheel, cwd=folder)
    (packages,) = (folder / 'env').glob('lib/python*/site-packages')
    (packages / 'shared.pth').write_text('\n'.join(site.getsitepackages()))
    return packages


@pytest.fixture
def command(environment):
    return environment.parents[2] / 'bin' / 'infopro-seg'


def files(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }


@pytest.mark.parametrize('name', ['configs', 'tools'])
def test_it_brings_all_configs_and_tools(environment, name):
    assert files(environment / 'infopro_seg/.mim' / name) == files(ROOT / name)


@pytest.mark.exhaustive
def test_every_config_is_found_by_its_name(environment, command, tmp_path):
    said = run(command.with_name('python'), '-c', RESOLVE, cwd=tmp_path)
    expected = {
        path.relative_to(ROOT / 'configs').as_posix()
        for path in [*ROOT.glob('configs/*.py'), *ROOT.glob('configs/studies/*.py')]
        if 'mmpretrain' not in path.read_text()
    }
    found = dict(line.split() for line in said.splitlines())
    assert set(found) == expected
    assert all(kind.startswith('InfoPro') for kind in found.values())
    code = 'import infopro_seg; print(infopro_seg.__file__)'
    where = run(command.with_name('python'), '-c', code, cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(environment)


@pytest.mark.exhaustive
def test_a_config_of_the_package_trains_by_its_name(command, tmp_path):
    run(command, 'train', STREETS, '--cfg-options', *SMALL, cwd=tmp_path)
    work_dir = tmp_path / 'work_dirs/infopro_deeplabv3_r18_streets'
    assert (work_dir / 'iter_2.pth').is_file()


@pytest.mark.exhaustive
def test_a_study_of_the_package_is_read(command, tmp_path):
    study = 'infopro_seg::studies/streets_r18.yaml'
    assert 'InfoPro K=8' in run(command, 'study', study, '--dry-run', cwd=tmp_path)


@pytest.mark.dist
@pytest.mark.exhaustive
def test_several_processes_train(command, tmp_path):
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    launcher = (command.with_name('python'), '-m', 'torch.distributed.run')
    launcher += ('--nproc_per_node=2', f'--master_port={port}', '-m', '--')
    arguments = ('train', STREETS, '--launcher', 'pytorch', '--local', 'head=lean')
    run(
        *(*launcher, 'infopro_seg.cli', *arguments, '--cfg-options', *SMALL),
        cwd=tmp_path,
    )
    work_dir = tmp_path / 'work_dirs/infopro_deeplabv3_r18_streets'
    assert (work_dir / 'iter_2.pth').is_file()
