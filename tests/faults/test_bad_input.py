"""Bad input: one clear error that names the file or the setting.

``BEFORE`` is found before anything is built or written, ``BUILD`` when the network is
built, ``LOAD`` when a checkpoint or an image is loaded.
"""

import contextlib

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import DATASETS

from infopro_seg.cli.config import check_amp, enable_amp
from infopro_seg.datasets import check_data, check_datasets, check_images
from infopro_seg.engine.data_guard_hook import guard
from tests.datasets.test_camvid import PIPELINE, TRAIN, make_camvid
from tests.engine.runs import MODEL, runner_of
from tests.helpers import build, deeplabv3, localized


def cut(path, keep):
    """Keep this fraction of a file, from its beginning."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def camvid(root, **settings):
    dataset = {
        'type': 'CamVidDataset',
        'data_root': str(root),
        'data_prefix': dict(TRAIN),
        'pipeline': PIPELINE,
        **settings,
    }
    return Config({'default_scope': 'mmseg', 'train_dataloader': {'dataset': dataset}})


def check(root, **settings):
    cfg = camvid(root, **settings)
    check_datasets(cfg)
    check_images(cfg)


def load_first(root):
    """Load a sample as a worker of a guarded loader does."""
    dataset = DATASETS.build(camvid(root).train_dataloader.dataset)
    guard(torch.utils.data.DataLoader(dataset))
    return dataset[0]


def truncated_image(root):
    make_camvid(root, suffix='.jpg')
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    cv2.imwrite(str(root / 'train/0001.jpg'), noise)
    cut(root / 'train/0001.jpg', 0.9)
    check(root)


def truncated_label(root):
    make_camvid(root)
    cut(root / 'trainannot/0000.png', 0.6)
    check(root)


def not_an_image(root):
    make_camvid(root)
    (root / 'train/0001.png').write_text('<html>404 not found</html>')
    check(root)


def empty_file(root):
    make_camvid(root)
    (root / 'train/0001.png').write_bytes(b'')
    check(root)


def other_size(root):
    make_camvid(root)
    cv2.imwrite(str(root / 'trainannot/0001.png'), np.zeros((12, 20), np.uint8))
    check(root)


def other_size_unchecked(root):
    make_camvid(root)
    cv2.imwrite(str(root / 'trainannot/0000.png'), np.zeros((12, 20), np.uint8))
    load_first(root)


def not_an_image_unchecked(root):
    make_camvid(root)
    (root / 'train/0000.png').write_text('<html>404 not found</html>')
    load_first(root)


def truncated_header(root):
    make_camvid(root, suffix='.jpg')
    cut(root / 'train/0001.jpg', 0.1)
    check(root)


def label_outside_the_classes(root):
    model = {**MODEL, 'decode_head': {**MODEL['decode_head'], 'num_classes': 3}}
    model['auxiliary_head'] = {**MODEL['auxiliary_head'], 'num_classes': 3}
    runner_of(root, model=model, hooks=[{'type': 'CheckLabelsHook'}]).train()


def empty_list(root):
    make_camvid(root)
    (root / 'split.txt').write_text('')
    check(root, ann_file='split.txt')


def folder_without_images(root):
    make_camvid(root, num_images=0)
    check(root)


def folder_without_labels(root):
    make_camvid(root)
    for path in (root / 'trainannot').iterdir():
        path.unlink()
    check(root)


def missing_folder(root):
    check(root / 'nowhere')


def checkpoint_of_other_classes(root, load='load_from'):
    runner = runner_of(root, iterations=1)
    runner.train()
    model = {**MODEL, 'decode_head': {**MODEL['decode_head'], 'num_classes': 7}}
    runner_of(
        root / 'other',
        model=model,
        hooks=[{'type': 'CheckWeightsHook'}],
        load_from=str(root / 'iter_1.pth'),
    ).train()


def unsupported_backbone(root):
    build(localized(deeplabv3({'type': 'CGNet', 'norm_cfg': {'type': 'BN'}})))


def local(**settings):
    return lambda root: build(localized(deeplabv3(), **settings))


def amp_on_cpu(root):
    enable_amp(Config({'optim_wrapper': {'type': 'OptimWrapper'}}))


def amp_config_on_cpu(root):
    check_amp(Config({'optim_wrapper': {'type': 'AmpOptimWrapper'}}))


BEFORE, BUILD, LOAD = 'before', 'build', 'load'
TABLE = [
    (truncated_image, BEFORE, ValueError, r'train/0001.jpg is truncated'),
    (truncated_label, BEFORE, ValueError, r'trainannot/0000.png is truncated'),
    (not_an_image, BEFORE, ValueError, r'train/0001.png is no image file'),
    (empty_file, BEFORE, ValueError, r'train/0001.png is no image file'),
    (
        other_size,
        BEFORE,
        ValueError,
        r'train/0001.png has 12x16 pixels .*trainannot/0001.png has 12x20',
    ),
    (
        other_size_unchecked,
        LOAD,
        ValueError,
        r'train/0000.png, label \S+trainannot/0000.png: .* 12x16 .* 12x20',
    ),
    (
        not_an_image_unchecked,
        LOAD,
        ValueError,
        r'train/0000.png.*LoadImageFromFile failed',
    ),
    (truncated_header, BEFORE, ValueError, r'train/0001.jpg is truncated'),
    (
        label_outside_the_classes,
        LOAD,
        ValueError,
        r'label_\d.png of image image_\d.png holds the values 3, 4.*3 classes',
    ),
    (empty_list, BEFORE, FileNotFoundError, r'split.txt'),
    (folder_without_images, BEFORE, FileNotFoundError, r'no image .*train'),
    (folder_without_labels, BEFORE, FileNotFoundError, r'trainannot'),
    (missing_folder, BEFORE, FileNotFoundError, r'no folder \S+nowhere .data_root'),
    (
        checkpoint_of_other_classes,
        LOAD,
        ValueError,
        r'decode_head.conv_seg.weight is \(5, 16, 1, 1\) in the checkpoint and '
        r'\(7, 16, 1, 1\) in the model .* num_classes=7',
    ),
    (unsupported_backbone, BUILD, TypeError, r'no units are known for backbone CGNet'),
    (
        local(splits=['layer3.0', 'layer2.0']),
        BUILD,
        ValueError,
        r"out of order.*Write splits=\['layer2.0', 'layer3.0'\]",
    ),
    (
        local(splits=['layer2.0', 'layer2.0']),
        BUILD,
        ValueError,
        r"names 'layer2.0' twice",
    ),
    (local(num_modules=99), BUILD, ValueError, r'num_modules=99 is out of range.*1 '),
    (
        local(weights={'segmentation': (1.0, -0.5)}),
        BUILD,
        ValueError,
        r'weights=\(1.0, -0.5\) must be finite and not negative',
    ),
    (amp_on_cpu, BEFORE, RuntimeError, r'--amp needs a CUDA device'),
    (amp_config_on_cpu, BEFORE, RuntimeError, r'--amp needs a CUDA device'),
]


@pytest.mark.parametrize(
    ('cause', 'when', 'error', 'text'),
    TABLE,
    ids=[f'{i}-{cause.__name__}' for i, (cause, *_) in enumerate(TABLE)],
)
def test_bad_input_gives_one_clear_error(
    tmp_path, monkeypatch, cause, when, error, text
):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(error, match=f'(?s){text}') as caught:
        cause(tmp_path)
    assert type(caught.value) is error
    if when != LOAD:
        assert not list(tmp_path.rglob('*.log'))


def test_good_data_pass(tmp_path):
    make_camvid(tmp_path, suffix='.jpg')
    check(tmp_path)
    assert load_first(tmp_path)['inputs'].shape == (3, 12, 16)


def test_all_damaged_files_are_in_one_message_of_bounded_length(tmp_path):
    make_camvid(tmp_path, num_images=13)
    for i in range(12):
        cut(tmp_path / f'train/{i:04d}.png', 0.5)
    with pytest.raises(ValueError) as error:
        check(tmp_path)
    assert '12 problem(s)' in str(error.value)
    assert '0009.png is truncated' in str(error.value)
    assert '0010.png' not in str(error.value)
    assert 'and 2 more' in str(error.value)


@pytest.mark.parametrize('rank', ['0', '1', 'worker-3'])
@pytest.mark.parametrize('launcher', [None, 'none', 'pytorch', 'slurm', 'mpi'])
@pytest.mark.parametrize('look', [check_images, check_data])
def test_the_other_processes_leave_the_images_to_the_first(
    tmp_path, monkeypatch, launcher, rank, look
):
    if launcher not in (None, 'none') and not rank.isdigit():
        pytest.skip('launchers set numbers')
    make_camvid(tmp_path)
    cut(tmp_path / 'train/0000.png', 0.5)
    cfg = camvid(tmp_path)
    cfg.launcher = launcher
    # A cluster may set it, also where each container trains for itself.
    monkeypatch.setenv('RANK', rank)
    checks = launcher in (None, 'none') or rank == '0'
    problem = pytest.raises(ValueError, match='0000.png')
    with problem if checks else contextlib.nullcontext():
        look(cfg)
