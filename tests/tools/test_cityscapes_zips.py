"""tools/prepare_cityscapes.py on the zip files of the download."""

import errno
import shutil
from types import SimpleNamespace
from zipfile import ZipFile, ZipInfo

import numpy as np
import pytest

from infopro_seg.cli import prepare_cityscapes
from infopro_seg.datasets import cityscapes_zips
from tests.fakes.cityscapes import write_cityscapes, write_frame, write_zips

IMAGE = 'leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png'
LABEL = 'gtFine/train/aachen/aachen_000000_000019_gtFine_labelTrainIds.png'
NUM_FRAMES = {'train': 2, 'val': 1, 'test': 1}


@pytest.fixture(scope='module')
def official(tmp_path_factory):
    """The data set as it was zipped; beside it are the zip files."""
    folder = tmp_path_factory.mktemp('official')
    root = write_cityscapes(folder / 'unpacked', num_train=2, num_val=1)
    rng = np.random.default_rng(0)
    write_frame(root, 'test', 'berlin_000000_000019', (64, 128), rng)
    write_zips(root, folder)
    return root


@pytest.fixture
def root(official, tmp_path):
    """DATA_ROOT with nothing but both zip files."""
    root = tmp_path / 'cityscapes'
    root.mkdir()
    for path in official.parent.glob('*.zip'):
        shutil.copy(path, root)
    return root


@pytest.fixture
def images(root):
    return root / 'leftImg8bit_trainvaltest.zip'


def prepare(*args):
    arguments = [*map(str, args), '--num-workers', '1']
    return prepare_cityscapes.main(arguments)


def files_of(root, splits=('train', 'val')):
    """Contents of the unpacked files by name, labels and zip files left out."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for name in ('gtFine', 'leftImg8bit')
        for path in (root / name).rglob('*')
        if path.is_file() and path.relative_to(root).parts[1] in splits
        if 'labelTrainIds' not in path.name
    }


def everything_of(root):
    return sorted(path for path in root.rglob('*') if path.suffix != '.zip')


def test_both_zips_in_the_folder_are_unpacked_and_prepared(root, official, capsys):
    assert prepare(root) == 0
    assert files_of(root) == files_of(official)
    assert (root / LABEL).exists()
    # Nothing else: no test split, no README, nothing half-written.
    assert {x.name for x in root.iterdir() if x.is_dir()} == {'gtFine', 'leftImg8bit'}
    assert not (root / 'README').exists()
    assert not files_of(root, ['test'])
    assert not list(root.rglob('.*'))
    captured = capsys.readouterr()
    assert '12 files of train, val to unpack, 0 already there' in captured.out
    assert '3 files of train, val to unpack, 0 already there' in captured.out
    assert f'--data-root {root}' in captured.out.splitlines()[-1]
    assert 'tools/train.py configs/' in captured.out.splitlines()[-1]


def test_zips_elsewhere_go_by_any_name_in_any_order(root, official, tmp_path):
    first = shutil.move(root / 'gtFine_trainvaltest.zip', tmp_path / 'a (1).zip')
    second = shutil.move(root / 'leftImg8bit_trainvaltest.zip', tmp_path / 'b.zip')
    new = tmp_path / 'new folder' / 'cityscapes'
    assert prepare(new, '--zips', second, first) == 0
    assert files_of(new) == files_of(official)
    # One given, one lying there.
    shutil.move(second, root / 'leftImg8bit_trainvaltest.zip')
    assert prepare(root, '--zips', first) == 0
    assert files_of(root) == files_of(official)


def test_only_the_splits_asked_for_are_unpacked(root, official, capsys):
    assert prepare(root, '--splits', 'val') == 0
    assert files_of(root) == files_of(official, ['val'])
    assert not files_of(root, ['train', 'test'])
    assert 'tools/train.py' not in capsys.readouterr().out
    assert prepare(root, '--splits', 'train', 'val', 'test') == 0
    assert files_of(root, NUM_FRAMES) == files_of(official, NUM_FRAMES)


def test_what_is_unpacked_stays_and_what_is_half_unpacked_is_replaced(
    root, official, capsys
):
    assert prepare(root) == 0
    times = {name: (root / name).stat().st_mtime_ns for name in files_of(root)}
    half = (root / IMAGE).read_bytes()[:100]
    (root / IMAGE).write_bytes(half)  # as an unpacker leaves it that was killed
    capsys.readouterr()
    assert prepare(root) == 0
    assert files_of(root) == files_of(official)
    out = capsys.readouterr().out
    assert '0 files of train, val to unpack, 12 already there' in out
    assert '1 files of train, val to unpack, 2 already there' in out
    again = {name: (root / name).stat().st_mtime_ns for name in times}
    assert [x for x in times if times[x] != again[x]] == [IMAGE]


def test_folders_that_are_unpacked_need_no_zip(root, official):
    assert prepare(root) == 0
    for path in root.glob('*.zip'):
        path.unlink()
    (root / LABEL).unlink()
    assert prepare(root) == 0
    assert (root / LABEL).exists()


def test_an_interrupted_run_leaves_whole_files_and_is_continued(
    root, official, monkeypatch, capsys
):
    copy, copied = shutil.copyfileobj, []

    def interrupted(source, target, length):
        if len(copied) == 13:  # the second image
            target.write(source.read(50))
            raise KeyboardInterrupt
        copied.append(source.name)
        copy(source, target, length)

    monkeypatch.setattr(shutil, 'copyfileobj', interrupted)
    assert prepare(root) == 130
    assert 'run it again to continue' in capsys.readouterr().err
    whole = files_of(official)
    left = files_of(root)
    assert len(left) == 13
    assert left == {name: whole[name] for name in left}
    monkeypatch.undo()
    assert prepare(root) == 0
    assert files_of(root) == whole
    assert '2 files of train, val to unpack, 1 already there' in capsys.readouterr().out


def test_a_killed_run_leaves_nothing_that_is_taken_as_whole(root, official):
    # What SIGKILL leaves: the name that is written to first.
    partial = root / IMAGE
    partial = partial.with_name(f'.{partial.name}.part')
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b'half')
    assert prepare(root) == 0
    assert files_of(root) == files_of(official)
    assert not partial.exists()


@pytest.mark.parametrize('folder', ['gtFine', 'leftImg8bit'])
def test_a_missing_zip_is_named_before_anything_is_unpacked(root, folder, capsys):
    (root / f'{folder}_trainvaltest.zip').unlink()
    assert prepare(root) == 1
    err = capsys.readouterr().err
    assert (
        f'{root} holds no {folder}/: put {folder}_trainvaltest.zip into it, or say '
        'where they are with --zips'
    ) in err
    assert not everything_of(root)


def test_a_zip_that_is_not_there_is_named(root, capsys):
    assert prepare(root, '--zips', root / 'absent.zip') == 1
    assert f'there is no file {root / "absent.zip"}' in capsys.readouterr().err


@pytest.mark.parametrize('damage', ['cut', 'page', 'empty'])
def test_a_file_that_is_no_whole_zip_is_refused(root, images, damage, capsys):
    whole = images.read_bytes()
    kinds = {'cut': whole[:-200], 'page': b'<html>login</html>', 'empty': b''}
    images.write_bytes(kinds[damage])
    assert prepare(root) == 1
    err = capsys.readouterr().err
    assert f'{images} is no whole zip file' in err
    assert 'download it again from https://www.cityscapes-dataset.com' in err
    assert not everything_of(root)


def test_damage_inside_a_zip_is_found_and_whole_files_stay(
    root, images, official, capsys
):
    with ZipFile(images) as file:
        offset = file.getinfo(IMAGE).header_offset
    content = bytearray(images.read_bytes())
    middle = offset + 30 + len(IMAGE) + 400
    content[middle : middle + 8] = bytes(x ^ 255 for x in content[middle : middle + 8])
    images.write_bytes(content)
    assert prepare(root) == 1
    assert f'{images} is damaged at {IMAGE}' in capsys.readouterr().err
    left = files_of(root)
    assert len(left) == 12 and IMAGE not in left
    shutil.copy(official.parent / images.name, images)
    assert prepare(root) == 0
    assert files_of(root) == files_of(official)


def test_zips_of_something_else_are_refused(root, images, tmp_path, capsys):
    other = tmp_path / 'gtCoarse.zip'
    with ZipFile(other, 'w') as file:
        file.writestr('gtCoarse/train/aachen/x_gtCoarse_polygons.json', '{}')
    assert prepare(root, '--zips', other) == 1
    err = capsys.readouterr().err
    assert f'{other} is neither gtFine_trainvaltest.zip nor leftImg8bit_train' in err
    extra = tmp_path / 'leftImg8bit_trainextra.zip'
    with ZipFile(extra, 'w') as file:
        file.writestr('leftImg8bit/train_extra/bonn/bonn_0_0_leftImg8bit.png', 'x')
    assert prepare(root, '--zips', extra) == 1
    err = capsys.readouterr().err
    assert f'{extra} holds no leftImg8bit/train/; the file that does is left' in err
    assert prepare(root, '--zips', images, images) == 1
    assert 'both hold leftImg8bit/: give one of each' in capsys.readouterr().err
    shutil.copy(root / 'gtFine_trainvaltest.zip', images)
    assert prepare(root) == 1
    assert f'{images} holds gtFine/ instead of leftImg8bit/' in capsys.readouterr().err
    assert not everything_of(root)


@pytest.mark.parametrize(
    'name',
    [
        '../evil.png',
        'leftImg8bit/train/../../../evil.png',
        '/tmp/evil.png',
        'leftImg8bit\\..\\evil.png',
        'C:evil.png',
    ],
)
def test_paths_that_leave_the_folder_are_refused(root, images, name, capsys):
    with ZipFile(images, 'a') as file:
        file.writestr(ZipInfo(name), 'x')
    assert prepare(root) == 1
    err = capsys.readouterr().err
    assert f'{images} holds the path {name!r}, which leaves the folder' in err
    assert not everything_of(root)
    assert not list(root.parent.glob('evil*'))


def test_a_link_in_a_zip_becomes_no_link(root, images):
    name = 'leftImg8bit/train/aachen/aachen_000009_000019_leftImg8bit.png'
    link = ZipInfo(name)
    link.external_attr = 0o120777 << 16
    with ZipFile(images, 'a') as file:
        file.writestr(link, '/etc/hostname')
    assert prepare(root) == 1  # an image without annotation
    assert not (root / name).is_symlink()
    assert (root / name).read_text() == '/etc/hostname'


def test_files_of_macos_archives_are_left_out(root, images):
    name = 'leftImg8bit/train/aachen/._aachen_000000_000019_leftImg8bit.png'
    with ZipFile(images, 'a') as file:
        file.writestr(name, 'x')
        file.writestr(f'__MACOSX/{name}', 'x')
    assert prepare(root) == 0
    assert not (root / name).exists() and not (root / '__MACOSX').exists()


def test_a_disk_without_room_is_refused_before_anything_is_unpacked(
    root, monkeypatch, capsys
):
    asked = []

    def disk_usage(path):
        asked.append(path)
        return SimpleNamespace(free=free)

    monkeypatch.setattr(cityscapes_zips.shutil, 'disk_usage', disk_usage)
    # 15 files and 3 label images, each smaller than a block or a few of them.
    archives = cityscapes_zips.find_archives(root, [], ['train', 'val'])
    members = [x for archive in archives for x in archive.members]
    labels = [x for x in members if x.filename.endswith('_labelIds.png')]
    need = sum(-(-x.file_size // 4096) * 4096 for x in members + labels)
    free = need - 1
    assert prepare(root) == 1
    err = capsys.readouterr().err
    assert f'unpacking into {root} needs 0.00 GB and the disk has 0.00 GB free' in err
    assert not everything_of(root)
    free = need
    assert prepare(root) == 0
    free = 0  # there is nothing left to write
    assert prepare(root) == 0
    assert set(asked) == {root.absolute()}


def test_the_disk_of_a_folder_to_come_is_that_of_its_parent(root, tmp_path):
    free = cityscapes_zips.check_space(tmp_path / 'not' / 'yet' / 'there', 0)
    assert free > 0
    with pytest.raises(RuntimeError, match=r'needs 1000000000.00 GB .* another disk'):
        cityscapes_zips.check_space(tmp_path / 'not yet', 10**18)


def test_a_disk_that_fills_up_meanwhile_is_named(root, official, monkeypatch, capsys):
    def full(source, target, length):
        target.write(b'half')
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(shutil, 'copyfileobj', full)
    assert prepare(root) == 1
    err = capsys.readouterr().err
    assert f'error: the disk of {root} is full; free some space and run' in err
    assert not files_of(root)
    assert not list(root.rglob('*.part'))
    monkeypatch.undo()
    assert prepare(root) == 0
    assert files_of(root) == files_of(official)


def test_other_errors_of_the_disk_are_told_as_they_are(root, monkeypatch, capsys):
    def broken(source, target, length):
        raise OSError(errno.EIO, 'Input/output error')

    monkeypatch.setattr(shutil, 'copyfileobj', broken)
    assert prepare(root) == 1
    assert 'Input/output error' in capsys.readouterr().err


def test_a_bad_number_of_workers_is_named_before_anything_is_unpacked(root, capsys):
    with pytest.raises(SystemExit):
        prepare_cityscapes.main([str(root), '--num-workers', '0'])
    assert '--num-workers must be at least 1, got 0' in capsys.readouterr().err
    assert not everything_of(root)
