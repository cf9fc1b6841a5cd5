import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infopro_seg.datasets import cityscapes_labels as labels
from tests.commands import run_tool
from tests.fakes.cityscapes import KINDS, write_cityscapes

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'prepare_cityscapes.py'
FRAME = 'gtFine/train/aachen/aachen_000000_000019_gtFine'

# Hand-typed from the label table of Cityscapes; every other id is ignored (255).
TRAIN_ID_OF = {7: 0, 8: 1, 11: 2, 17: 5, 20: 7, 21: 8, 23: 10, 24: 11, 26: 13}


@pytest.fixture
def root(tmp_path):
    return write_cityscapes(tmp_path / 'cityscapes', num_train=2, num_val=1)


@pytest.fixture
def prepare():
    main = importlib.import_module(f'infopro_seg.cli.{TOOL.stem}').main
    return lambda *args: main([str(x) for x in args] + ['--num-workers', '1'])


def pixels(path):
    return np.array(Image.open(path))


def train_id_files(root):
    return sorted(root.rglob('*_labelTrainIds.png'))


def test_label_images_hold_the_train_ids_of_the_label_ids(root, prepare, capsys):
    assert prepare(root) == 0
    made = train_id_files(root)
    assert len(made) == 3
    seen = set()
    for path in made:
        label_ids = pixels(str(path).replace('labelTrainIds', 'labelIds'))
        expected = np.full_like(label_ids, 255)
        for label_id, train_id in TRAIN_ID_OF.items():
            expected[label_ids == label_id] = train_id
        assert np.array_equal(pixels(path), expected)
        seen |= set(np.unique(expected).tolist())
    assert seen == {*TRAIN_ID_OF.values(), 255}
    out = capsys.readouterr().out
    assert 'train: 2 images (official: 2975), 2 annotations, 2 label images' in out
    assert 'aachen 1, bochum 1' in out
    assert 'gtFine_trainvaltest.zip' in out and 'leftImg8bit_trainvaltest.zip' in out


def test_the_fake_agrees_with_cityscapesscripts(root):
    from cityscapesscripts.helpers.annotation import Annotation
    from cityscapesscripts.helpers.labels import name2label
    from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
    from cityscapesscripts.preparation.json2labelImg import createLabelImage

    for name, kind in KINDS.items():
        label = name2label[name]
        assert kind == (label.id, label.color, label.hasInstances)
    for path in sorted(root.rglob('*_polygons.json')):
        annotation = Annotation()
        annotation.fromJsonFile(str(path))
        for drawn, kind in (
            (createLabelImage(annotation, 'ids'), 'labelIds'),
            (createLabelImage(annotation, 'color'), 'color'),
            (createInstanceImage(annotation, 'ids'), 'instanceIds'),
        ):
            saved = pixels(str(path).replace('polygons.json', f'{kind}.png'))
            assert np.array_equal(np.array(drawn), saved), (path, kind)


def test_the_fake_is_reproducible(root, tmp_path):
    again = write_cityscapes(tmp_path / 'again', num_train=2, num_val=1)
    other = write_cityscapes(tmp_path / 'other', num_train=2, num_val=1, seed=1)
    files = [x.relative_to(root) for x in root.rglob('*') if x.is_file()]
    assert len(files) == 3 * 5
    for file in files:
        assert (root / file).read_bytes() == (again / file).read_bytes()
        assert (root / file).read_bytes() != (other / file).read_bytes()


def test_existing_label_images_stay_unless_forced(root, prepare):
    assert prepare(root) == 0
    made = root / f'{FRAME}_labelTrainIds.png'
    good = made.read_bytes()
    made.write_bytes(b'mine')
    assert prepare(root) == 0
    assert made.read_bytes() == b'mine'
    assert prepare(root, '--force') == 0
    assert made.read_bytes() == good


def test_several_processes_make_the_same_files(root, prepare):
    annotations = labels.find_annotations(root, ['train', 'val'])
    results = list(labels.make_label_images(annotations, num_workers=2))
    assert results == [(x, None) for x in annotations]
    made = [x.read_bytes() for x in train_id_files(root)]
    assert prepare(root, '--force') == 0
    assert made == [x.read_bytes() for x in train_id_files(root)]


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('{"imgHeight": 64, "imgWi', 'JSONDecodeError'),
        ('{"imgWidth": 8, "objects": []}', "KeyError: 'imgHeight'"),
        ('[]', 'TypeError'),
        (
            json.dumps(
                {
                    'imgHeight': 8,
                    'imgWidth': 8,
                    'objects': [{'label': 'zebra', 'polygon': [[0, 0], [5, 5]]}],
                }
            ),
            "Label 'zebra' not known.",
        ),
    ],
)
def test_a_broken_polygon_file_is_named_and_the_rest_made(
    root, prepare, capsys, text, reason
):
    broken = root / f'{FRAME}_polygons.json'
    broken.write_text(text)
    assert prepare(root) == 1
    captured = capsys.readouterr()
    assert f'{broken}: {reason}' in captured.err
    assert 'USAGE' not in captured.out
    assert 'annotations without label image: 1 (aachen_000000_000019)' in captured.out
    assert len(train_id_files(root)) == 2
    assert not list(root.rglob('*.tmp'))


def test_a_broken_polygon_file_keeps_the_old_label_image(root, prepare):
    assert prepare(root) == 0
    made = root / f'{FRAME}_labelTrainIds.png'
    good = made.read_bytes()
    (root / f'{FRAME}_polygons.json').write_text('')
    assert prepare(root, '--force') == 1
    assert made.read_bytes() == good


def test_an_interrupted_write_leaves_no_half_image(root, monkeypatch):
    def interrupted(self, path, **kwargs):
        Path(path).write_bytes(b'half')
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, 'save', interrupted)
    before = sorted(root.rglob('*'))
    with pytest.raises(KeyboardInterrupt):
        labels.make_label_image(root / f'{FRAME}_polygons.json')
    assert sorted(root.rglob('*')) == before


def test_images_without_annotation_fail_and_the_reverse_is_told(root, prepare, capsys):
    (root / f'{FRAME}_polygons.json').unlink()
    assert prepare(root) == 1
    assert 'images without annotation: 1 (aachen_000000_000019)' in (
        capsys.readouterr().out
    )
    (root / 'leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png').unlink()
    (root / 'leftImg8bit/val/frankfurt/frankfurt_000000_000019_leftImg8bit.png').rename(
        root / 'leftImg8bit/val/frankfurt/frankfurt_000001_000019_leftImg8bit.png'
    )
    assert prepare(root) == 1
    out = capsys.readouterr().out
    assert 'train: 1 images (official: 2975), 1 annotations' in out
    assert 'annotations without image: 1 (frankfurt_000000_000019)' in out


def test_an_empty_split_is_no_success(root, prepare):
    assert prepare(root, '--splits', 'train') == 0
    assert len(train_id_files(root)) == 2
    assert prepare(root, '--splits', 'train', 'test') == 1


def test_a_wrong_folder_gets_the_layout_and_the_names_of_the_downloads(
    root, prepare, capsys
):
    assert prepare(root / 'gtFine') == 1
    err = capsys.readouterr().err
    assert 'holds no gtFine/ and leftImg8bit/' in err
    assert 'gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip' in err
    assert 'train/aachen/aachen_000000_000019_gtFine_polygons.json' in err
    (root / 'leftImg8bit').rename(root / 'images')
    assert prepare(root) == 1
    assert 'holds no leftImg8bit/:' in capsys.readouterr().err


def test_a_missing_cityscapesscripts_says_how_to_install(
    root, prepare, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, 'cityscapesscripts.helpers.labels', None)
    assert prepare(root) == 1
    assert 'pip install cityscapesscripts' in capsys.readouterr().err


def test_bad_arguments_are_named(root):
    with pytest.raises(ValueError, match='at least 1, got 0'):
        labels.make_label_images([], num_workers=0)
    with pytest.raises(ValueError, match=r"\['vla'\].*train, val, test"):
        labels.find_annotations(root, ['vla'])


def test_files_of_macos_archives_are_no_annotations(root):
    (root / 'gtFine/train/aachen/._aachen_000000_000019_gtFine_polygons.json').touch()
    assert len(labels.find_annotations(root, ['train'])) == 2


def test_help_holds_an_example(tmp_path):
    help_text = run_tool(TOOL.name, '--help', cwd=tmp_path).stdout
    assert 'python tools/prepare_cityscapes.py data/cityscapes' in help_text


@pytest.mark.slow
def test_the_tool_runs_from_any_folder(root, tmp_path):
    result = run_tool(TOOL.name, 'cityscapes', '--num-workers', 2, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert 'ready for training' in result.stdout
    assert len(train_id_files(root)) == 3
