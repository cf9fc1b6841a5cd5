"""Names of configs that come with the package, as arguments and as bases."""

import os
from pathlib import Path

import pytest

from infopro_seg import bundled, processes
from infopro_seg.settings.config import read_config

ROOT = Path(__file__).resolve().parents[1]
NAME = 'infopro_deeplabv3_r18_streets.py'


def test_a_checkout_uses_its_own_folders():
    assert bundled.CONFIGS == ROOT / 'configs'
    assert bundled.TOOLS == ROOT / 'tools'
    assert bundled.CHECKOUT == ROOT


@pytest.mark.parametrize('name', [NAME, 'studies/streets_r18.py'])
def test_a_name_is_the_file_whether_read_or_inherited(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    expected = read_config(ROOT / 'configs' / name).to_dict()
    assert read_config(f'infopro_seg::{name}').to_dict() == expected
    child = "_base_ = 'infopro_seg::{}'\nmodel = dict(backbone=dict(depth=34))\n"
    Path('mine.py').write_text(child.format(name))
    expected['model']['backbone']['depth'] = 34
    assert read_config('mine.py').to_dict() == expected


def test_a_value_of_the_base_keeps_the_registry_of_the_config(tmp_path):
    # mmengine marks what is taken from a package with a registry of its name, and here
    # there is none.
    child = f"_base_ = 'infopro_seg::{NAME}'\nmodel = {{{{_base_.model}}}}\n"
    (tmp_path / 'mine.py').write_text(child)
    cfg = read_config(tmp_path / 'mine.py')
    assert '_scope_' not in cfg.model
    assert cfg.model.type == 'InfoProEncoderDecoder'


def test_configs_of_mmseg_are_found_as_before(tmp_path):
    name = 'mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py'
    (tmp_path / 'mine.py').write_text(f'_base_ = {name!r}\n')
    assert read_config(tmp_path / 'mine.py').model.decode_head.type == 'PSPHead'


def test_a_wrong_name_gets_the_nearest_and_the_folder():
    with pytest.raises(FileNotFoundError) as raised:
        read_config('infopro_seg::infopro_deeplabv3_r18_street.py')
    assert str(raised.value) == (
        'infopro_seg::infopro_deeplabv3_r18_street.py does not exist; did you mean '
        f'infopro_seg::{NAME}? All are in {ROOT / "configs"}.'
    )
    with pytest.raises(FileNotFoundError, match='does not exist; all are in'):
        read_config('infopro_seg::zzz')


@pytest.mark.parametrize('checkout', [None, ROOT])
def test_only_a_checkout_is_put_in_the_path_of_other_processes(
    tmp_path, monkeypatch, checkout
):
    # Installed packages would hide Python's own modules, as the package typing does.
    monkeypatch.setattr(processes, 'CHECKOUT', checkout)
    monkeypatch.setenv('PYTHONPATH', 'mine')
    code = 'import os; print(os.environ["PYTHONPATH"])'
    log = tmp_path / 'log'
    assert processes.start(['-c', code], log).wait() == 0
    expected = ['mine'] if checkout is None else [str(ROOT), 'mine']
    assert log.read_text().strip() == os.pathsep.join(expected)
