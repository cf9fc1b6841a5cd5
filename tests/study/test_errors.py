"""What a study refuses after its file was read."""

import json
import os
import signal
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from infopro_seg.study import runner
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


def finished(content, write, places):
    """A study whose first run has a row."""
    study = read_study(write(content))
    job = jobs_of(study)[0]
    record = {'name': job.row.name, 'seed': job.seed, 'miou': 3.0}
    places.rows(study).mkdir(parents=True, exist_ok=True)
    path = places.rows(study) / f'{job.slug}.json'
    path.write_text(json.dumps({**record, 'settings': dict(job.settings)}))
    assert read_row(job, places)['miou'] == 3.0


@pytest.mark.parametrize('is_added', [True, False])
def test_an_option_of_none_is_not_one_that_is_missing(content, write, places, is_added):
    plain, without = dict(content['rows'][0]), dict(content['rows'][0])
    without['options'] = {'model.auxiliary_head': None}
    before, after = (plain, without) if is_added else (without, plain)
    content['rows'][0] = before
    finished(content, write, places)
    content['rows'][0] = after
    told = 'auxiliary_head=its default, and .* now has None'
    if not is_added:
        told = 'auxiliary_head=None, and the study file now has its default'
    with pytest.raises(ValueError, match=told):
        read_row(job_of(content, write), places)


def test_a_row_under_another_name_with_the_same_letters(content, write, places):
    finished(content, write, places)
    content['rows'][0]['name'] = 'End to end'
    with pytest.raises(
        ValueError, match="is of row 'end-to-end', seed 0, .* that name"
    ):
        read_row(job_of(content, write), places)


def test_images_that_are_a_selection_already(content, write):
    cfg = method_config(read_study(write(content)).rows[0])
    cfg.train_dataloader.dataset.indices = 5
    with pytest.raises(ValueError, match='leave indices out of train_dataloader'):
        hold_out(cfg)


@pytest.fixture
def processes(monkeypatch):
    """Runs that never end, in place of processes; those that were stopped."""
    stopped = []
    monkeypatch.setattr(runner, 'stop', stopped.append)
    monkeypatch.setattr(
        runner, 'start', lambda *_, **__: SimpleNamespace(poll=lambda: None)
    )
    return stopped


def test_on_a_full_disk_all_runs_are_stopped(
    content, write, places, processes, monkeypatch
):
    def full(*_):
        raise OSError(28, 'No space left on device')

    def interrupt():
        monkeypatch.setattr(runner, 'write_whole', full)
        raise KeyboardInterrupt

    jobs = jobs_of(read_study(write(content)))
    with pytest.raises(KeyboardInterrupt):
        runner.run_jobs(jobs, places, num_processes=3, tell=print, watch=interrupt)
    assert len(processes) == 3


def test_a_run_that_cannot_begin_takes_no_other_with_it(
    content, write, places, processes, monkeypatch
):
    begin, jobs = runner.run_config, jobs_of(read_study(write(content)))

    def broken(job, *others):
        if job is jobs[1]:
            raise TypeError('the host does not like it')
        return begin(job, *others)

    monkeypatch.setattr(runner, 'run_config', broken)
    began = []

    def start(command, *_, **__):
        began.append(command)
        return SimpleNamespace(poll=lambda: 1, returncode=1)

    monkeypatch.setattr(runner, 'start', start)
    monkeypatch.setattr(runner, 'last_line', lambda _: 'it broke')
    failed = runner.run_jobs(jobs, places, num_processes=2, tell=print)
    assert len(began) == 3 and not processes
    assert failed[jobs[1]] == 'TypeError: the host does not like it'
    assert [failed[job].partition(' (')[0] for job in jobs if job is not jobs[1]] == [
        *['it broke'] * 3
    ]


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_runs_are_stopped_when_the_terminal_is_closed(
    content, write, places, processes, number
):
    jobs = jobs_of(read_study(write(content)))
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt):
            runner.run_jobs(
                jobs,
                places,
                num_processes=2,
                tell=print,
                watch=lambda: os.kill(os.getpid(), number),
            )
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
    assert len(processes) == 2


def test_nohup_is_respected(content, write, places, processes):
    jobs = jobs_of(read_study(write(content)))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    calls = []

    def watch():
        os.kill(os.getpid(), signal.SIGHUP)
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            runner.run_jobs(jobs, places, num_processes=1, tell=print, watch=watch)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert len(calls) == 3
