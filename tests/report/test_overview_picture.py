import pytest
from matplotlib import image

from infopro_seg.report.overview_picture import (
    best_methods,
    draw_overview,
    method_name,
)

BENCHMARK = {
    'network': 'ResNet 18 + FCNHead',
    'batch_size': 2,
    'crop_size': [64, 128],
    'precision': 'float32',
    'device': 'CPU, 1 thread',
    'methods': [
        {'kind': 'end_to_end', 'num_modules': 1, 'peak_bytes': 2**30},
        {'kind': 'compile', 'num_modules': 1, 'peak_bytes': 2**30},
        {'kind': 'local', 'num_modules': 4, 'peak_bytes': 2**29},
    ],
}


def method(name, local, mean):
    return {
        'name': name,
        'local': local,
        'iterations': 300,
        'seeds': [0],
        'miou': {'mean': mean, 'deviation': None},
        'predicted_peak_bytes': 2**20,
    }


STUDY = {
    'facts': {'about': 'a network', 'iterations': 300, 'scores on': 'val'},
    'methods': [
        method('end-to-end, lr 1', {'splits': []}, 30.0),
        method('end-to-end, lr 2', {'splits': []}, 40.0),
        method('K=4, lr 1', {'num_modules': 4}, 39.0),
        method('K=4, lr 2', {'num_modules': 4}, 29.0),
    ],
}


def test_every_method_is_shown_at_its_best():
    names = [entry['name'] for entry in best_methods(STUDY['methods'])]
    assert names == ['end-to-end, lr 2', 'K=4, lr 1']


def test_a_method_that_needs_other_memory_is_another_one():
    smaller = method('end-to-end, batch 2', {'splits': []}, 35.0)
    smaller['predicted_peak_bytes'] //= 4
    names = [entry['name'] for entry in best_methods([*STUDY['methods'], smaller])]
    assert names == ['end-to-end, lr 2', 'K=4, lr 1', 'end-to-end, batch 2']


@pytest.mark.parametrize(
    ('iterations', 'name'), [(300, 'K=4'), (1200, 'K=4, 1200 iterations')]
)
def test_iterations_are_named_where_they_are_not_those_of_the_study(iterations, name):
    entry = {**method('K=4', {'num_modules': 4}, 38.0), 'iterations': iterations}
    assert method_name(entry, 300) == name


def test_methods_of_fewer_seeds_than_others_are_left_out():
    many = {**method('K=2', {'num_modules': 2}, 38.0), 'seeds': [0, 1, 2]}
    assert best_methods([*STUDY['methods'], many]) == [many]


def test_a_bar_of_half_the_memory_is_half_as_long(tmp_path):
    draw_overview(BENCHMARK, STUDY, tmp_path / 'overview.png')
    pixels = (image.imread(tmp_path / 'overview.png')[:, :, :3] * 255).round()
    left = pixels[:, : pixels.shape[1] // 2]
    grey, blue = (
        (left == colour).all(axis=2).sum() for colour in ((74, 85, 96), (59, 125, 216))
    )
    assert blue == pytest.approx(grey / 2, rel=0.02)


@pytest.mark.parametrize(
    ('more', 'is_blue'),
    [({}, True), ({'end_to_end_every': 4}, True), ({'end_to_end_every': 1}, False)]
    + [({'deep_supervision': True}, False)],
)
def test_what_has_walls_is_blue_with_its_deviation_on_it(tmp_path, more, is_blue):
    entry = method('a row', {'num_modules': 4, **more}, 40.0)
    entry['miou']['deviation'] = 8.0
    study = {**STUDY, 'methods': [entry]}
    draw_overview(BENCHMARK, study, tmp_path / 'overview.png')
    pixels = (image.imread(tmp_path / 'overview.png')[:, :, :3] * 255).round()
    right = pixels[:, pixels.shape[1] // 2 :]
    blue, dark = (
        (right == colour).all(axis=2).any() for colour in ((59, 125, 216), (31, 41, 51))
    )
    assert blue == is_blue and dark


def test_what_was_only_predicted_is_refused(tmp_path):
    predicted = [{**entry, 'peak_bytes': None} for entry in BENCHMARK['methods']]
    with pytest.raises(ValueError, match='give a benchmark with --steps above 0'):
        draw_overview({**BENCHMARK, 'methods': predicted}, STUDY, tmp_path / 'a.png')
