import importlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infopro_seg.evaluation import cityscapes_scores as scoring
from tests.commands import run_tool
from tests.fakes.cityscapes import write_cityscapes

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'evaluate_cityscapes.py'

# Hand-typed from the label table of Cityscapes, in the order of the train ids:
# label id, name, category.
CLASSES = [
    (7, 'road', 'flat'),
    (8, 'sidewalk', 'flat'),
    (11, 'building', 'construction'),
    (12, 'wall', 'construction'),
    (13, 'fence', 'construction'),
    (17, 'pole', 'object'),
    (19, 'traffic light', 'object'),
    (20, 'traffic sign', 'object'),
    (21, 'vegetation', 'nature'),
    (22, 'terrain', 'nature'),
    (23, 'sky', 'sky'),
    (24, 'person', 'human'),
    (25, 'rider', 'human'),
    (26, 'car', 'vehicle'),
    (27, 'truck', 'vehicle'),
    (28, 'bus', 'vehicle'),
    (31, 'train', 'vehicle'),
    (32, 'motorcycle', 'vehicle'),
    (33, 'bicycle', 'vehicle'),
]
LABEL_IDS = np.array([x for x, _, _ in CLASSES], np.uint8)


@pytest.fixture
def root(tmp_path):
    return write_cityscapes(tmp_path / 'cityscapes', num_train=1, num_val=2)


@pytest.fixture
def evaluate():
    main = importlib.import_module(f'infopro_seg.cli.{TOOL.stem}').main
    return lambda *args: main([str(x) for x in args])


def pixels(path):
    return np.array(Image.open(path))


def ground_truth(root):
    """Frame -> train ids (255: ignored), by the table above."""
    train_id_of = np.full(256, 255, np.uint8)
    train_id_of[LABEL_IDS] = np.arange(19)
    return {
        x.name.removesuffix('_gtFine_labelIds.png'): train_id_of[pixels(x)]
        for x in sorted((root / 'gtFine' / 'val').rglob('*_labelIds.png'))
    }


def save(folder, frame, array):
    folder.mkdir(exist_ok=True)
    path = folder / f'{frame}_leftImg8bit.png'
    Image.fromarray(array).save(path)
    return path


@pytest.fixture
def predicted(root):
    """Frame -> train ids: the truth, wrong in 40% of the pixels."""
    rng = np.random.default_rng(3)
    result = {}
    for frame, truth in ground_truth(root).items():
        noise = rng.integers(0, 17, truth.shape, dtype=np.uint8)  # 17, 18: never
        is_wrong = (rng.random(truth.shape) < 0.4) | (truth == 255)
        result[frame] = np.where(is_wrong, noise, truth)
    return result


@pytest.fixture
def folder(tmp_path, predicted):
    for frame, array in predicted.items():
        save(tmp_path / 'predictions', frame, array)
    return tmp_path / 'predictions'


def confusion_matrix(root, predicted):
    """Count pixels by (truth, prediction), ignored pixels left out."""
    matrix = np.zeros((19, 19), np.int64)
    for frame, truth in ground_truth(root).items():
        counted = truth != 255
        np.add.at(matrix, (truth[counted], predicted[frame][counted]), 1)
    return matrix


def iou_of(matrix):
    with np.errstate(invalid='ignore'):
        hits = np.diag(matrix)
        return hits / (matrix.sum(0) + matrix.sum(1) - hits)


def test_scores_equal_those_of_a_confusion_matrix(root, folder, predicted):
    scores = scoring.evaluate_predictions(root, folder)
    matrix = confusion_matrix(root, predicted)
    assert 0 < matrix.sum() < 2 * 64 * 128  # some pixels are ignored
    iou = iou_of(matrix)
    assert np.isnan(iou[17:]).all() and not np.isnan(iou[:17]).any()
    names = [name for _, name, _ in CLASSES]
    assert list(scores.class_iou) == names
    # Both divide the same two integers: equal, not close.
    np.testing.assert_array_equal([scores.class_iou[x] for x in names], iou)
    assert scores.class_miou == pytest.approx(iou[:17].mean(), rel=1e-12)

    categories = list(dict.fromkeys(x for _, _, x in CLASSES))
    member = np.array([[x == y for _, _, x in CLASSES] for y in categories], np.int64)
    category_iou = iou_of(member @ matrix @ member.T)
    assert list(scores.category_iou) == categories and len(categories) == 7
    np.testing.assert_array_equal(list(scores.category_iou.values()), category_iou)
    assert scores.category_miou == pytest.approx(category_iou.mean(), rel=1e-12)
    assert (scores.num_images, scores.num_ignored_predictions) == (2, 0)


def test_predictions_on_ignored_pixels_do_not_matter(root, folder, predicted):
    before = scoring.evaluate_predictions(root, folder)
    for frame, truth in ground_truth(root).items():
        ignored = truth == 255
        assert ignored.any()
        save(folder, frame, np.where(ignored, np.uint8(18), predicted[frame]))
    after = scoring.evaluate_predictions(root, folder)
    assert scoring.record_of(after) == scoring.record_of(before)


def test_the_truth_scores_one_and_absent_classes_do_not_count(root, tmp_path):
    for frame, truth in ground_truth(root).items():
        save(tmp_path / 'perfect', frame, np.where(truth == 255, np.uint8(0), truth))
    scores = scoring.evaluate_predictions(root, tmp_path / 'perfect')
    assert scores.class_miou == scores.category_miou == 1.0
    assert math.isnan(scores.class_iou['bus']) and scores.class_iou['car'] == 1.0
    record = scoring.record_of(scores)
    assert record['class_iou_percent']['bus'] is None
    assert record['class_iou_percent']['car'] == record['class_miou_percent'] == 100


@pytest.mark.parametrize('mode', ['L', 'P'])  # CityscapesMetric writes palette images
def test_label_ids_score_like_train_ids(root, folder, predicted, tmp_path, mode):
    for frame, array in predicted.items():
        path = save(tmp_path / 'label_ids', frame, LABEL_IDS[array])
        Image.open(path).convert(mode).save(path)
    expected = scoring.record_of(scoring.evaluate_predictions(root, folder))
    scores = scoring.evaluate_predictions(
        root, tmp_path / 'label_ids', pixel_format='label-ids'
    )
    assert scoring.record_of(scores) == expected


def test_values_that_contradict_the_format_are_refused(root, folder, predicted):
    with pytest.raises(ValueError, match=r'values \[1, 2, .*say --format train-ids'):
        scoring.evaluate_predictions(root, folder, pixel_format='label-ids')
    for frame, array in predicted.items():
        save(folder, frame, LABEL_IDS[array])
    with pytest.raises(ValueError, match=r'frankfurt.*\[19, .*say --format label-ids'):
        scoring.evaluate_predictions(root, folder)


def test_unknown_choices_are_refused(root, folder):
    with pytest.raises(ValueError, match="'test'; choose from train, val"):
        scoring.evaluate_predictions(root, folder, split='test')
    with pytest.raises(ValueError, match="'ids'; choose from train-ids, label-ids"):
        scoring.evaluate_predictions(root, folder, pixel_format='ids')


def test_missing_predictions_are_counted_and_named(root, folder, tmp_path):
    (folder / 'frankfurt_000000_000019_leftImg8bit.png').unlink()
    with pytest.raises(FileNotFoundError, match='1 of 2 images: frankfurt_000000_0000'):
        scoring.evaluate_predictions(root, folder)
    with pytest.raises(FileNotFoundError, match='nowhere is not a folder'):
        scoring.evaluate_predictions(root, tmp_path / 'nowhere')


def test_predictions_of_another_shape_are_refused(root, folder, predicted):
    frame, array = list(predicted.items())[1]
    path = save(folder, frame, array[::2])
    with pytest.raises(ValueError, match=f'{path} is 128 x 32 .* truth 128 x 64'):
        scoring.evaluate_predictions(root, folder)
    save(folder, frame, np.stack([array] * 3, -1))
    with pytest.raises(ValueError, match=f'{path} has 3 channels'):
        scoring.evaluate_predictions(root, folder)


def test_a_truncated_prediction_is_named(root, folder):
    path = folder / 'lindau_000001_000019_leftImg8bit.png'
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=f'{path} cannot be read'):
        scoring.evaluate_predictions(root, folder)


def test_two_predictions_for_an_image_are_refused(root, folder, predicted):
    frame, array = next(iter(predicted.items()))
    save(folder / 'again', frame, array)
    with pytest.raises(ValueError, match='two predictions for one image: .* and '):
        scoring.evaluate_predictions(root, folder)


def test_predictions_of_other_images_are_counted(root, folder, predicted):
    save(folder, 'ulm_000000_000019', next(iter(predicted.values())))
    scores = scoring.evaluate_predictions(root, folder)
    assert (scores.num_images, scores.num_ignored_predictions) == (2, 1)
    assert '1 predictions of other images were ignored' in scoring.table_of(scores)


def test_missing_ground_truth_names_the_download(root, folder):
    for path in root.rglob('*_labelIds.png'):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r'labelIds.png; .*gtFine_trainvalt'):
        scoring.evaluate_predictions(root, folder)


def test_an_exit_of_the_official_evaluation_becomes_an_error(root, folder):
    path = next((root / 'gtFine' / 'val').rglob('*_labelIds.png'))
    Image.fromarray(np.full((64, 128), 77, np.uint8)).save(path)
    with pytest.raises(RuntimeError, match='Unknown label with id 77'):
        scoring.evaluate_predictions(root, folder)


def test_nothing_is_written_or_printed_and_no_global_changes(
    root, folder, tmp_path, monkeypatch, capfd
):
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official

    # The values that an untouched module has, and where it would save its result.
    monkeypatch.setattr(official.args, 'quiet', False)
    monkeypatch.setattr(official.args, 'JSONOutput', True)
    monkeypatch.setattr(official.args, 'evalLabels', [])
    monkeypatch.setattr(official.args, 'exportFile', str(tmp_path / 'official.json'))
    monkeypatch.chdir(tmp_path)
    files = {x: x.stat().st_mtime_ns for x in sorted(tmp_path.rglob('*'))}
    settings = dict(vars(official.args))
    scoring.evaluate_predictions(root, folder)
    assert {x: x.stat().st_mtime_ns for x in sorted(tmp_path.rglob('*'))} == files
    assert vars(official.args) == settings
    assert capfd.readouterr().out == ''


def test_the_tool_prints_a_table_and_saves_percent(root, folder, evaluate, tmp_path):
    file = tmp_path / 'scores.json'
    assert evaluate(root, folder, '--json', file) == 0
    record = json.loads(file.read_text())
    scores = scoring.evaluate_predictions(root, folder)
    assert record == scoring.record_of(scores)
    assert record['class_miou_percent'] == 100 * scores.class_miou
    assert record['num_images'] == 2 and record['num_official_images'] == 500
    assert record['versions']['cityscapesscripts']


def test_the_table_holds_classes_categories_and_a_warning(
    root, folder, evaluate, capsys
):
    assert evaluate(root, folder) == 0
    out = capsys.readouterr().out
    scores = scoring.evaluate_predictions(root, folder)
    for name, value in (
        ('class mIoU', scores.class_miou),
        ('category mIoU', scores.category_miou),
        ('car', scores.class_iou['car']),
        ('vehicle', scores.category_iou['vehicle']),
    ):
        assert f'{name:<16}{100 * value:8.2f}\n' in out
    assert 'not comparable with published numbers' in out


def test_the_tool_replaces_its_file_only_if_forced(
    root, folder, evaluate, tmp_path, capsys
):
    file = tmp_path / 'scores.json'
    file.write_text('mine')
    assert evaluate(root, folder, '--json', file) == 1
    assert f'{file} exists; give --force' in capsys.readouterr().err
    assert file.read_text() == 'mine'
    assert evaluate(root, folder, '--json', file, '--force') == 0
    assert json.loads(file.read_text())['num_images'] == 2
    made = tmp_path / 'no' / 'scores.json'
    assert evaluate(root, folder, '--json', made) == 0
    assert json.loads(made.read_text())['num_images'] == 2


def test_the_tool_fails_with_one_line(root, folder, evaluate, capsys):
    assert evaluate(root, folder, '--format', 'label-ids') == 1
    err = capsys.readouterr().err
    assert err.startswith('error: ') and err.count('\n') == 1


@pytest.mark.slow
def test_scores_agree_with_the_metric_whose_files_are_read(root, predicted, tmp_path):
    import torch
    from mmseg.datasets import CityscapesDataset
    from mmseg.evaluation import IoUMetric

    folder = tmp_path / 'of_mmseg'
    metric = IoUMetric(output_dir=str(folder))
    metric.dataset_meta = CityscapesDataset.METAINFO
    for frame, truth in ground_truth(root).items():
        sample = {
            'pred_sem_seg': {'data': torch.from_numpy(predicted[frame])[None].long()},
            'gt_sem_seg': {'data': torch.from_numpy(truth)[None].long()},
            'img_path': f'leftImg8bit/val/x/{frame}_leftImg8bit.png',
        }
        metric.process({}, [sample])
    expected = metric.compute_metrics(metric.results)['mIoU']
    scores = scoring.evaluate_predictions(root, folder)
    # The metric computes in float32 and rounds to two decimals.
    assert 100 * scores.class_miou == pytest.approx(expected, abs=0.006)


@pytest.mark.slow
def test_the_tool_runs_from_any_folder(root, folder, tmp_path):
    arguments = ('cityscapes', 'predictions', '--json', 's.json')
    result = run_tool(TOOL.name, *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / 's.json').read_text())['split'] == 'val'
