"""The proof on the CPU at toy size: what it runs, keeps, goes on with and says."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from infopro_seg.cli import gpu_proof, plot_benchmark
from infopro_seg.planner.make import RESERVE_BYTES
from infopro_seg.proof import parts as proof_parts
from infopro_seg.proof.job import Job, Records
from infopro_seg.proof.parts import compared, parts
from infopro_seg.proof.report import reserve_of, write_page
from infopro_seg.proof.runner import run_part, run_parts

ROOT = Path(__file__).resolve().parents[2]
GIB = 2**30


@pytest.fixture
def job(config):
    return Job(
        config,
        device='cpu',
        batch_size=2,
        crop_size=(64, 96),
        num_modules=(2,),
        cards=(8,),
        steps=1,
        warmup=2,
        networks=(),
    )


def test_parts_of_most_worth_come_first():
    names = list(parts(Job('any')))
    assert names[:2] == ['memory-float32', 'time-float32']
    assert names[8:] == [
        'cards',
        'rivals-float32',
        'networks',
        'rivals-bfloat16',
        'camvid',
    ]
    assert {name.partition('-')[2] for name in names[:8]} == {
        'float32',
        'tf32',
        'bfloat16',
        'float16',
    }
    on_cpu = [*names[:2], 'rivals-float32', 'networks', 'camvid']
    assert list(parts(Job('any', device='cpu'))) == on_cpu


@pytest.mark.exhaustive
def test_stock_training_local_modules_and_plans_for_cards_are_compared(job):
    whole, *_ = compared(job, 'float32')
    card = (RESERVE_BYTES + 0.9 * whole.predicted_peak_bytes) / GIB
    job = dataclasses.replace(job, cards=(card, 100 * card))
    found = compared(job, 'float32')
    names = [method.name for method in found]
    assert names[:4] == [
        'end_to_end',
        'checkpointing',
        'local K=2',
        'local+recompute K=2',
    ]
    # On the second card end-to-end training fits: there is nothing to plan.
    assert [method.kind for method in found[4:]] == [f'plan for {card:g} GiB']
    assert found[4].predicted_peak_bytes <= card * GIB - RESERVE_BYTES


@pytest.mark.exhaustive
def test_a_part_goes_on_behind_what_it_has_written(job, tmp_path, monkeypatch):
    folder = tmp_path / 'out'
    run_parts(job, folder, seconds=0)
    run_part('memory-float32', folder)
    records = {record['name']: record for record in Records(folder, 'memory-float32')}
    assert all(r['predicted_bytes'] and r['allocated_bytes'] for r in records.values())
    # As if it had been stopped before the last but one.
    path = folder / 'memory-float32.json'
    lost = list(records)[-2]
    kept = {name: record for name, record in records.items() if name != lost}
    path.write_text(json.dumps({'is_done': False, 'records': kept}))
    measured = []

    def used(job, method):
        measured.append(method.name)
        return {'allocated_bytes': 1}

    monkeypatch.setattr(proof_parts, '_used', used)
    run_part('memory-float32', folder)
    assert measured == [lost]
    again = Records(folder, 'memory-float32')
    assert again.is_done
    assert {record['name'] for record in again} == set(records)


@pytest.mark.exhaustive
def test_out_of_memory_is_a_result(job, tmp_path, monkeypatch):
    class Failing:
        def __init__(self, *_):
            raise torch.OutOfMemoryError('CUDA out of memory')

    monkeypatch.setattr(proof_parts, 'Contender', Failing)
    folder = tmp_path / 'out'
    run_parts(job, folder, seconds=0)
    run_part('memory-float32', folder)
    records = Records(folder, 'memory-float32')
    assert records.is_done
    assert all(record['is_out_of_memory'] for record in records)
    assert 'out of memory' in write_page(folder, {}, {})


def test_without_time_nothing_starts(job, tmp_path):
    states = run_parts(job, tmp_path / 'out', seconds=0)
    camvid = states.pop('camvid')
    assert camvid == 'skipped: give --camvid DIR, the folder of CamVid'
    assert set(states.values()) == {'not started'}
    assert not Records(tmp_path / 'out', 'memory-float32').is_done


def test_numbers_of_two_jobs_are_not_mixed(job, tmp_path):
    run_parts(job, tmp_path, seconds=0)
    other = Job(**{**vars(job), 'batch_size': 3, 'seed': 1})
    with pytest.raises(ValueError, match='with another batch_size, seed .*--out'):
        run_parts(other, tmp_path, seconds=0)


@pytest.mark.exhaustive
def test_a_part_that_fails_takes_nothing_with_it(job, tmp_path):
    broken = Job(**{**vars(job), 'config': str(tmp_path / 'missing.py')})
    states = run_parts(broken, tmp_path / 'out', seconds=600)
    for name in ('memory-float32', 'time-float32', 'rivals-float32'):
        state = states[name]
        assert state.startswith('failed: ') and 'missing.py' in state
        assert str(tmp_path / 'out' / f'{name}.log') in state


def test_the_page_sets_predictions_beside_the_card(tmp_path):
    records = Records(tmp_path, 'memory-float32')
    sizes = {
        'predicted_bytes': 10 * GIB,
        'allocated_bytes': 9.6 * GIB,
        'reserved_bytes': 11 * GIB,
        'in_use_bytes': 11.5 * GIB,
    }
    records.add('end_to_end', sizes)
    records.add('local K=2', {**sizes, 'in_use_bytes': 10.7 * GIB})
    records.finish()
    Records(tmp_path, 'time-float32').finish(
        methods=[
            {
                'name': 'local K=2',
                'median_seconds': 0.5,
                'quartile_seconds': [0.4, 0.6],
                'time_ratio': 0.93,
            }
        ]
    )
    cards = Records(tmp_path, 'cards')
    cards.add(
        '11 GiB, plan K=17',
        {
            'batch_size': 19,
            'crop_size': [512, 1024],
            'predicted_bytes': 7 * GIB,
            'fits': True,
        },
    )
    said = write_page(tmp_path, {'card': 'a card'}, {'cards': 'done'})
    page = (tmp_path / 'gpu.md').read_text()
    for line in (
        '- card: a card',
        '| end_to_end | 10.00 GiB | 9.60 GiB | +4.2% | 11.00 GiB | 11.50 GiB | | | |',
        '| local K=2 | 10.00 GiB | 9.60 GiB | +4.2% | 11.00 GiB | 10.70 GiB | 0.500 '
        '| 0.400 to 0.600 | 0.930 |',
        '| 11 GiB, plan K=17 | 19 of 512x1024 | 7.00 GiB | yes |',
        '| cards | done |',
    ):
        assert line in re.sub(' +', ' ', said)
        assert line in re.sub(' +', ' ', page)
    assert reserve_of(tmp_path) == 1.5 * GIB
    assert reserve_of(tmp_path, 'float16') is None


@pytest.mark.exhaustive
def test_the_tool_goes_on_and_writes_its_page(config, tmp_path):
    def run():
        command = [sys.executable, str(ROOT / 'tools' / 'gpu_proof.py')]
        command += ['--out', str(tmp_path / 'out'), '--device', 'cpu']
        command += ['--config', config, '--batch-size', '2', '--crop-size', '64', '96']
        command += ['--num-modules', '2', '--steps', '1', '--warmup', '2']
        command += ['--networks', config, 'mmseg::missing/no_such_config.py']
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    said = run()
    said = re.sub(' +', ' ', said)
    assert said.count('| done |') == 4
    assert '| local K=2 |' in said
    assert '| camvid | skipped: give --camvid DIR, the folder of CamVid |' in said
    assert '| tiny, 2 of 64x64 | local K=2 |' in said
    assert re.search(r'^- mmseg::missing/no_such_config.py: \w+: .*', said, re.M)
    for method in ('compile 0.2', 'compile 1'):
        assert re.search(rf'\| {method} \| - \| [\d.]+ [KMG]iB \| - \|', said), method
    assert 'save_on_cpu' not in said
    picture = tmp_path / 'time.png'
    plot_benchmark.main([str(tmp_path / 'out' / 'time-float32.json'), str(picture)])
    assert picture.read_bytes().startswith(b'\x89PNG')
    rivals = tmp_path / 'rivals.png'
    plot_benchmark.main([str(tmp_path / 'out/rivals-float32.json'), str(rivals)])
    assert rivals.read_bytes().startswith(b'\x89PNG')
    logs = {path: path.read_text() for path in (tmp_path / 'out').glob('*.log')}
    assert re.sub(' +', ' ', run()).count('| done |') == 4
    assert {path: path.read_text() for path in logs} == logs


def test_a_missing_card_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(RuntimeError, match='no CUDA device'):
        gpu_proof.main(['--out', str(tmp_path)])
