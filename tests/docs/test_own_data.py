"""docs/own-data.md from its first line to its last, on six small images."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from tests.commands import run_tool
from tests.docs.pages import blocks_of, commands_of

ALL = blocks_of('docs/own-data.md')
BLOCKS = [block for block in ALL if block.language != 'bash']
COLOURS = np.array([[0, 0, 0], [128, 64, 128], [70, 70, 70]], np.uint8)
# A small network without pretrained weights, two iterations, no workers.
SMALLER = """
crop_size = (64, 64)
model.update(pretrained=None, backbone=dict(depth=18, base_channels=8, stem_channels=8))
model['decode_head'].update(in_channels=64, channels=8)
model['auxiliary_head'].update(in_channels=32, channels=8)
model['data_preprocessor'].update(size=crop_size)
train_pipeline[2].update(scale=(96, 80))
train_pipeline[3].update(crop_size=crop_size)
train_cfg.update(max_iters=2, val_interval=2)
for loader in (train_dataloader, val_dataloader, test_dataloader):
    loader.update(num_workers=0, persistent_workers=False)
del loader
"""


def draw(folder):
    """Images, and labels in colours; a border is of no class."""
    rng = np.random.default_rng(0)
    for part, count in (('train', 4), ('val', 2)):
        for kind in ('my_data/img', 'my_colours'):
            (folder / kind / part).mkdir(parents=True)
        for i in range(count):
            label = rng.integers(0, 3, (5, 6)).repeat(16, 0).repeat(16, 1)
            image = COLOURS[label][..., ::-1].copy()
            cv2.imwrite(str(folder / f'my_data/img/{part}/{i}.jpg'), image)
            image[:4] = 9
            cv2.imwrite(str(folder / f'my_colours/{part}/{i}.png'), image)


def run(folder, *command, **environment):
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, 'OMP_NUM_THREADS': '1', **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f'{command}:\n{done.stdout[-2000:]}{done.stderr}'
    return done.stdout


def run_line(folder, words):
    """A command of the page, with our Python and the iterations that there are."""
    python, tool, *arguments = (w.replace('iter_20000', 'iter_2') for w in words)
    assert python == 'python'
    done = run_tool(tool.removeprefix('tools/'), *arguments, cwd=folder)
    assert done.returncode == 0, f'{words}:\n{done.stdout[-2000:]}{done.stderr}'
    return done.stdout


@pytest.fixture(scope='module')
def parts():
    texts = [block.text for block in BLOCKS if block.language == 'python']
    config = next(i for i, text in enumerate(texts) if '_base_' in text)
    return texts[:config], texts[config], texts[config + 1 :]


def test_the_files_of_the_page_are_those_that_its_blocks_read(tmp_path):
    (text,) = (block.text for block in BLOCKS if block.language == 'text')
    root, *patterns = text.split()
    draw(tmp_path)
    for pattern in patterns:
        drawn = pattern.replace('ann/', '../my_colours/')
        assert list((tmp_path / root).glob(drawn)), pattern


@pytest.mark.exhaustive
def test_the_page_runs_as_it_is_written(tmp_path, parts):
    labels, config, use = parts
    draw(tmp_path)
    counted = 'Counter({'
    # Labels are counted before and after they are made of colours.
    code = '\n'.join([*labels, labels[0]])
    out = run(tmp_path, sys.executable, '-c', code).splitlines()
    assert out[0] == 'Counter()'
    assert out[1].startswith(counted)
    assert '255' in out[1]
    (tmp_path / 'my_config.py').write_text(config + SMALLER)
    outputs = [
        run_line(tmp_path, words)
        for block in ALL
        if block.language == 'bash'
        for words in commands_of(block.text)
    ]
    assert any('resuming from' in text for text in outputs)
    for name in ('plan.json', 'scores.json', 'predictions/0.png', 'my_model.pth'):
        assert (tmp_path / name).exists(), name
    work_dir = tmp_path / 'work_dirs/my_config'
    report = (work_dir / 'report.html').read_text()
    assert '<h3>Samples' in report and 'There are no samples' not in report
    pictures = work_dir.glob('test/*/vis_data/vis_image/*.png')
    sizes = [cv2.imread(str(picture)).shape[:2] for picture in pictures]
    assert sizes == [(80, 2 * 96)] * 2
    assert 'infopro_seg' not in (tmp_path / 'my_model.py').read_text()
    code = '\n'.join(use).replace('512, 512', '64, 64')
    # It must not find this package.
    check = '\nassert labels.shape == (80, 96) and logits.shape == (1, 3, 8, 8)'
    check += '\nimport sys; assert "infopro_seg" not in sys.modules'
    run(tmp_path, sys.executable, '-c', code + check)
    labelled = (tmp_path / 'labelled').rglob('*.*')
    assert sorted(path.relative_to(tmp_path).as_posix() for path in labelled) == [
        *('labelled/pred/00000000_pred.png', 'labelled/pred/00000001_pred.png'),
        *('labelled/vis/0.jpg', 'labelled/vis/1.jpg'),
    ]


def test_the_config_of_the_page_cuts_and_needs_no_more_than_it_shows(tmp_path, parts):
    from infopro_seg.cli.check_model import build_weightless
    from infopro_seg.settings.config import crop_size_of, read_config

    (tmp_path / 'my_config.py').write_text(parts[1])
    cfg = read_config(tmp_path / 'my_config.py')
    assert len(build_weightless(cfg).local_modules) == 3
    assert crop_size_of(cfg) == (512, 512)
    dataset = cfg.train_dataloader.dataset
    assert (dataset.type, dataset.data_root) == ('BaseSegDataset', 'my_data')
    assert 'leftImg8bit' not in str(dataset)
