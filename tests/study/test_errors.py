"""What a study refuses after its file was read."""

import pytest
from mmengine.config import Config

from infopro_seg.study.held_out import hold_out
from infopro_seg.study.job import Places, jobs_of, method_config, run_config
from infopro_seg.study.matrix import read_study
from infopro_seg.study.rows import read_row, write_row


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path / 'out', tmp_path / 'results')


def job_of(content, write):
    return jobs_of(read_study(write(content)))[0]


def test_too_few_images_to_hold_out(content, write):
    cfg = method_config(read_study(write(content)).rows[0])
    cfg.train_dataloader.dataset.num_scenes = 2
    with pytest.raises(ValueError, match='takes a fifth .* there are only 2'):
        hold_out(cfg)


def test_images_behind_a_wrapper_cannot_be_held_out():
    wrapped = {'type': 'RepeatDataset', 'dataset': {'type': 'CamVidDataset'}}
    cfg = Config({'train_dataloader': {'dataset': wrapped}})
    with pytest.raises(ValueError, match='wraps no other, got RepeatDataset'):
        hold_out(cfg)


@pytest.mark.parametrize(
    ('line', 'told'),
    [
        ("val_evaluator = dict(type='DepthMetric')", 'must be an IoUMetric'),
        (
            "train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=1)",
            'must count iterations',
        ),
    ],
)
def test_a_config_that_a_study_cannot_use(content, write, tmp_path, places, line, told):
    path = tmp_path / 'toy.py'
    path.write_text(path.read_text() + line + '\n')
    with pytest.raises(ValueError, match=told):
        run_config(job_of(content, write), places, tmp_path / 'weights.pth')


def test_a_run_without_its_last_score_is_not_finished(content, write, places):
    job = job_of(content, write)
    log = job.folder(places) / 'first/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text('{"mIoU": 3.0, "step": 2}\n')
    with pytest.raises(ValueError, match='ended without a score at iteration 4; its'):
        write_row(job, places, run_seconds=1.0, step=None)
    assert read_row(job, places) is None


def test_a_damaged_row_is_named(content, write, places):
    job = job_of(content, write)
    places.rows(job.study).mkdir(parents=True)
    (places.rows(job.study) / f'{job.slug}.json').write_text('{"miou": 3')
    with pytest.raises(ValueError, match='end-to-end_seed0.json is no row of a study'):
        read_row(job, places)
