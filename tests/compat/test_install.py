"""Version checks and the installed family of host libraries."""

import os
import subprocess
import sys

import pytest
from mmengine.config import Config

from infopro_seg import install
from tests.samples import some_of


@pytest.mark.parametrize('version', ['2.6.0', '2.14.1+cu130', '3.0.0a0'])
def test_supported_torch_is_accepted(version):
    install.require_torch(version)


@pytest.mark.parametrize('version', ['1.13.1', '2.5.1+cu121'])
def test_old_torch_is_refused_with_the_way_to_install(version):
    with pytest.raises(ImportError, match=r'torch >= 2.6 .*found.*requirements.txt'):
        install.require_torch(version)


def test_missing_mmseg_names_both_families(monkeypatch):
    for name in [n for n in sys.modules if n.split('.')[0] == 'mmseg']:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'mmseg', None)
    with pytest.raises(ImportError, match=r'\[onedl\].*\[openmmlab\]'):
        install.require_mmseg()


def test_a_missing_formatter_is_left_to_the_check_of_the_host(monkeypatch):
    monkeypatch.setitem(sys.modules, 'yapf', None)
    install.import_formatter()


def test_configs_inherit_from_the_installed_mmseg(tmp_path):
    path = tmp_path / 'mine.py'
    stock = 'deeplabv3/deeplabv3_r101-d8_4xb2-40k_cityscapes-512x1024.py'
    path.write_text(f"_base_ = 'mmseg::{stock}'\n")
    assert Config.fromfile(path).model.backbone.depth == 101


def test_import_prints_nothing():
    done = subprocess.run(
        [sys.executable, '-c', 'import infopro_seg'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ''


@pytest.mark.parametrize(
    'content', some_of([b'', b'\x80\x05\x95'], b''), ids=['empty', 'cut off']
)
def test_formatter_is_imported_past_a_damaged_cache(tmp_path, content):
    def run(code):
        env = {**os.environ, 'XDG_CACHE_HOME': str(tmp_path)}
        subprocess.run([sys.executable, '-c', code], env=env, check=True)

    run('import yapf')
    files = list(tmp_path.rglob('*.pickle'))
    assert files, 'yapf keeps no cache any more: import_formatter is not needed'
    for file in files:
        file.write_bytes(content)
    with pytest.raises(subprocess.CalledProcessError):
        run('import yapf')
    run(
        'import infopro_seg; from mmengine import Config;'
        'assert Config(dict(a=1)).pretty_text == "a = 1\\n"'
    )
