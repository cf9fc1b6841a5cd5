"""A whole study at toy size: trained, interrupted, changed, reported."""

import json
import os
import re
import signal

import numpy as np
import pytest
import torch

from infopro_seg.cli import study as cli
from infopro_seg.report.run_log import read_run
from infopro_seg.study import runner
from infopro_seg.study.job import Places, jobs_of, run_config
from infopro_seg.study.matrix import read_study
from tests.study.conftest import train_here


@pytest.fixture
def study(content, write, tmp_path):
    """Runs the tool on the study; returns its exit code."""
    folders = ['--out', str(tmp_path / 'out'), '--results', str(tmp_path / 'results')]

    def run(*arguments, **changes):
        path = write({**content, **changes})
        return cli.main([str(path), *folders, '--jobs', '1', *arguments])

    run.content, run.folder = content, tmp_path
    return run


def rows_in(folder):
    paths = sorted((folder / 'results/toy/rows').glob('*.json'))
    return [json.loads(path.read_text()) for path in paths]


def weights_in(folder, slug):
    (path,) = folder.glob(f'out/runs/{slug}_*/iter_*.pth')
    return torch.load(path, weights_only=False)['state_dict']


@pytest.mark.slow
def test_a_study_from_the_matrix_to_the_report(study, in_process, capsys):
    assert study('--dry-run', seconds_per_iteration=900) == 0
    assert '4 runs left, 1 at a time; hours: 4.0' in capsys.readouterr().out
    assert study() == 0
    said = capsys.readouterr().out
    assert re.findall(r'^(\d/4) (.*): mIoU', said, re.M) == [
        ('1/4', 'end-to-end, seed 0'),
        ('2/4', 'end-to-end, seed 3'),
        ('3/4', 'InfoPro K=2, seed 0'),
        ('4/4', 'InfoPro K=2, seed 3'),
    ]
    assert len(in_process) == 4 and all('--resume' in c for c in in_process)
    _check_report(study.folder)
    _check_rows(study.folder)
    # Nothing is left: nothing is trained, and a new machine needs the rows only.
    (study.folder / 'out').rename(study.folder / 'elsewhere')
    before = (study.folder / 'results/toy.json').read_bytes()
    assert study() == 0 and len(in_process) == 4
    assert (study.folder / 'results/toy.json').read_bytes() == before
    study('--dry-run', iterations=4)
    assert '0 runs left' in capsys.readouterr().out
    # Other settings under the name of a finished run.
    kept = rows_in(study.folder)
    with pytest.raises(ValueError) as error:
        study(iterations=3, checkpoint_interval=2)
    told = "run 'end-to-end, seed 0' is finished with iterations=4, and the study"
    assert str(error.value).startswith(told)
    rows = study.content['rows']
    other = [rows[0], {**rows[1], 'local': {'num_modules': 3}}]
    with pytest.raises(ValueError, match=r'local.num_modules=2, .* now has 3: give'):
        study(rows=other)
    config = study.folder / 'toy.py'
    config.write_text(config.read_text() + 'optim_wrapper = dict(clip_grad=None)\n')
    assert study('--report') == 0  # the same config in other words
    config.write_text(config.read_text().replace('channels=8, dil', 'channels=9, dil'))
    with pytest.raises(ValueError, match='is finished with config_digest='):
        study('--report')
    assert rows_in(study.folder) == kept


@pytest.mark.slow
def test_a_longer_row_is_trained_to_its_own_end_and_scored_if_it_was_stopped_there(
    study, in_process
):
    study.content['rows'][1].update(iterations=7, validation_interval=3, seeds=[0])
    assert study('--rows', 'InfoPro K=2', checkpoint_interval=2) == 0
    (row,) = rows_in(study.folder)
    assert row['iterations'] == [3, 6, 7]
    (job,) = jobs_of(read_study(study.folder / 'toy.yaml'))[-1:]
    places = Places(study.folder / 'out', study.folder / 'results')
    folder = job.folder(places)
    assert [path.name for path in folder.glob('iter_*.pth')] == ['iter_7.pth']
    # Stopped in its last validation.
    for path in folder.rglob('*.json'):
        lines = path.read_text().splitlines()
        kept = [x for x in lines if '"mIoU"' not in x or '"step": 7' not in x]
        path.write_text('\n'.join(kept) + '\n')
    (study.folder / 'results/toy/rows' / f'{job.slug}.json').unlink()
    assert study('--rows', 'InfoPro K=2', checkpoint_interval=2) == 0
    logs = ''.join(path.read_text() for path in folder.glob('*/*.log'))
    assert 'was saved before its validation' in logs
    assert 'validated_iter' not in logs
    (again,) = rows_in(study.folder)
    for key in ('iterations', 'miou_over_iterations', 'class_iou'):
        assert again[key] == row[key]


def _check_report(folder):
    rows = rows_in(folder)
    report = json.loads((folder / 'results/toy.json').read_text())
    page = re.sub(' +', ' ', (folder / 'results/toy.md').read_text())
    scores = {
        name: np.array([row['miou'] for row in rows if row['name'] == name])
        for name in ('end-to-end', 'InfoPro K=2')
    }
    difference = scores['InfoPro K=2'] - scores['end-to-end']
    base, local = report['methods']
    for entry in (base, local):
        values = scores[entry['name']]
        assert entry['miou']['mean'] == pytest.approx(values.mean())
        assert entry['miou']['deviation'] == pytest.approx(values.std(ddof=1))
        assert entry['curve']['iterations'] == [2, 4]
        assert entry['curve']['mean'][-1] == pytest.approx(values.mean())
    assert base['difference'] is None
    assert local['difference']['seeds'] == [0, 3]
    assert local['difference']['mean'] == pytest.approx(difference.mean())
    # Two seeds give none.
    assert local['difference']['low'] is None
    mean = f'{scores["InfoPro K=2"].mean():.2f}'
    told = f'| InfoPro K=2 | 2 | {mean} | {scores["InfoPro K=2"].std(ddof=1):.2f} '
    assert told + f'| {difference.mean():+.2f} | |' in page
    assert local['predicted_peak_bytes'] < base['predicted_peak_bytes']
    assert base['training_flops'] > 4e6 and local['training_flops'] > 4e6
    assert '- runs: 4 finished, 0 missing' in page
    assert '- command: python tools/study.py' in page
    for name in re.findall(r'\]\((toy/\w+\.png)\)', page):
        assert (folder / 'results' / name).read_bytes().startswith(b'\x89PNG')
    assert page.count('.png)') == 3


def _check_rows(folder):
    for row in rows_in(folder):
        slug = {'end-to-end': 'end-to-end', 'InfoPro K=2': 'infopro-k-2'}[row['name']]
        (run,) = folder.glob(f'out/runs/{slug}_seed{row["seed"]}_{row["digest"]}')
        series = read_run(run).series
        assert row['iterations'] == [2, 4] == series['mIoU'][0]
        assert row['miou_over_iterations'] == pytest.approx(series['mIoU'][1], abs=0.01)
        known = [score for score in row['class_iou'].values() if score is not None]
        # Each is rounded to two digits.
        assert row['miou'] == pytest.approx(np.mean(known), abs=0.011)
        assert len(row['class_iou']) == 19
        assert row['seconds_per_iteration'] == np.median(series['time'][1])
        assert [path.name for path in run.glob('iter_*.pth')] == ['iter_4.pth']
        assert str(folder) not in json.dumps(row)


@pytest.mark.exhaustive
def test_an_interrupted_study_goes_on_where_it_was(study, monkeypatch, capsys):
    long = {'iterations': 20, 'validation_interval': 10, 'seeds': [1]}
    out, wait = study.folder / 'out', runner.pause

    def interrupt():
        wait()
        if any(out.glob('runs/*/iter_*.pth')):
            # As a scheduler stops a job; Ctrl-C is the same exception.
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(runner, 'pause', interrupt)
        with pytest.raises(KeyboardInterrupt):
            study('--rows', 'InfoPro K=2', **long)
    assert rows_in(study.folder) == []
    (log,) = out.glob('runs/*/train.log')
    assert 'no checkpoint in' in log.read_text()
    assert study('--rows', 'InfoPro K=2', **long) == 0
    assert re.search(r'resuming from \S+iter_\d+\.pth', log.read_text())
    assert '1/1 InfoPro K=2, seed 1: mIoU' in capsys.readouterr().out
    (row,) = rows_in(study.folder)
    assert row['iterations'] == [10, 20]
    assert len(json.loads((log.parent / 'attempts.json').read_text())) == 2
    _check_against_an_uninterrupted_run(study, long, monkeypatch)


def _check_against_an_uninterrupted_run(study, long, monkeypatch):
    interrupted = weights_in(study.folder, 'infopro-k-2_seed1')
    (row,) = rows_in(study.folder)
    for name in ('out', 'results'):
        (study.folder / name).rename(study.folder / f'first_{name}')
    train_here(monkeypatch, [])
    assert study('--rows', 'InfoPro K=2', **long) == 0
    whole = weights_in(study.folder, 'infopro-k-2_seed1')
    assert all(torch.equal(whole[key], interrupted[key]) for key in whole)
    (again,) = rows_in(study.folder)
    for key in ('miou_over_iterations', 'class_iou', 'digest'):
        assert again[key] == row[key]


@pytest.mark.exhaustive
def test_a_run_that_fails_takes_no_other_with_it(study, in_process, capsys):
    rows = [
        {
            'name': 'broken',
            'local': {'splits': []},
            'options': {'train_dataloader.num_workers': -1},
        },
        study.content['rows'][0],
    ]
    settings = {'rows': rows, 'baseline': 'end-to-end', 'seeds': [0], 'iterations': 2}
    settings |= {'checkpoint_interval': 2}
    told = r'^failed: broken, seed 0: .*num_workers.*train.log\)$'
    assert study(**settings) == 1
    assert re.search(told, capsys.readouterr().out, re.M)
    assert [row['name'] for row in rows_in(study.folder)] == ['end-to-end']
    (study.folder / 'results').rename(study.folder / 'elsewhere')
    assert study('--rows', 'broken', **settings) == 1
    assert re.search(told, capsys.readouterr().out, re.M)


def test_two_processes_do_not_train_in_one_folder(study, content, write, tmp_path):
    jobs = jobs_of(read_study(write(content)))
    places = Places(tmp_path / 'out', tmp_path / 'results')
    with (
        runner._claimed(places.out),
        pytest.raises(RuntimeError, match='another process trains runs in .*out'),
    ):
        runner.run_jobs(jobs, places, num_processes=1, tell=print)


def test_tuning_does_not_touch_val(content, write, tmp_path):
    content['validate_on'] = 'train_split'
    (job, *_) = jobs_of(read_study(write(content)))
    places = Places(tmp_path / 'out', tmp_path / 'results')
    cfg = run_config(job, places, tmp_path / 'weights.pth')
    train, val = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    assert (train.indices, val.indices) == (8, -2)
    assert (val.seed, val.num_scenes) == (train.seed, train.num_scenes) == (0, 10)
    assert [step.type for step in val.pipeline] == ['DrawScene', 'PackSegInputs']
    content['validate_on'] = 'val'
    (job, *_) = jobs_of(read_study(write(content)))
    val = run_config(job, places, tmp_path / 'weights.pth').val_dataloader.dataset
    assert (val.seed, val.num_scenes) == (1, 2)
    assert 'indices' not in val


def test_without_a_finished_run_there_is_no_report(study):
    with pytest.raises(ValueError, match='no run of study toy is finished'):
        study('--report')
    with pytest.raises(ValueError, match="row 'infopro' is unknown"):
        study('--rows', 'infopro')
