"""Methods side by side, and accuracies: they go on, and failures are results."""

import dataclasses
import re
import signal
import subprocess
import sys

import pytest

from infopro_seg.cli import gpu_proof
from infopro_seg.processes import stop
from infopro_seg.proof import camvid as camvid_module
from infopro_seg.proof import sides
from infopro_seg.proof.camvid import NUM_MODULES, camvid_part
from infopro_seg.proof.job import NETWORKS, Job, Records
from infopro_seg.proof.parts import left_out
from infopro_seg.proof.report import write_page
from infopro_seg.proof.runner import job_in, run_parts
from infopro_seg.proof.side_tables import camvid_rows, side_table
from tests.walk.data import write_camvid


@pytest.fixture
def job(config):
    return Job(
        config,
        device='cpu',
        batch_size=2,
        crop_size=(64, 96),
        num_modules=(2,),
        steps=1,
        warmup=2,
        networks=(config,),
    )


def flat(text):
    return re.sub(' +', ' ', text)


@pytest.mark.exhaustive
def test_a_rival_that_fails_takes_no_other_with_it(job, tmp_path, monkeypatch):
    taken = []

    def measure(found, **_):
        taken.append([method.name for method in found])
        if found[1].kind == 'compile':
            raise RuntimeError('no compiler\nand a long story')
        return [None, None]

    monkeypatch.setattr(sides, 'measure', measure)
    records = Records(tmp_path, 'rivals-float32')
    records.add('checkpointing', {'methods': []})
    sides.rivals_part(job, records, 'float32')
    assert [pair[0] for pair in taken] == ['end_to_end'] * len(taken)
    others = [pair[1] for pair in taken]
    assert 'checkpointing' not in others  # was there already
    assert others[0] == 'selective'
    assert others[-2:] == ['local K=2', 'local+recompute K=2']
    assert records.is_done
    assert '- compile 0.2: RuntimeError: no compiler\n' in side_table(records)
    names = [entry['name'] for entry in records.fact('methods')]
    assert names == ['end_to_end', 'selective', *others[-2:]]


@pytest.mark.exhaustive
def test_networks_have_their_own_sizes_and_missing_packages_a_reason(job, tmp_path):
    convnext = next(name for name in NETWORKS if 'convnext' in name)
    job = dataclasses.replace(job, networks=(convnext, *job.networks), batch_size=7)
    records = Records(tmp_path, 'networks')
    sides.networks_part(job, records)
    first, second = records
    if 'failed' in first:
        assert 'mmpretrain' in first['failed']
    assert second['batch_size'] == 2
    names = [entry['name'] for entry in second['methods']]
    assert names == ['end_to_end', 'checkpointing', 'local K=2']
    page = flat(write_page(tmp_path, {}, {}))
    assert '## Other networks, float32' in page
    assert '| tiny, 2 of 64x64 | local K=2 |' in page


def test_all_networks_are_configs_of_mmseg():
    assert [name.split('/')[0] for name in NETWORKS] == [
        f'mmseg::{family}'
        for family in ('deeplabv3', 'segformer', 'swin', 'hrnet', 'convnext', 'vit')
    ]


def test_scores_are_means_over_seeds(job, tmp_path, monkeypatch):
    commands = []

    def train(arguments, device):
        commands.append(arguments)

    def scores(folder, iterations):
        return {'miou': 40.0 + 2 * ('seed_1' in folder.name)}

    monkeypatch.setattr(camvid_module, '_train', train)
    monkeypatch.setattr(camvid_module, '_scores', scores)
    records = Records(tmp_path, 'camvid')
    done = {'network': 'R50', 'num_modules': 8, 'seed': 0, 'miou': 40.0}
    records.add('R50 K=8 seed 0', done)
    camvid_part(dataclasses.replace(job, camvid='data', seeds=(0, 1)), records)
    assert len(commands) == 2 * 2 * len(NUM_MODULES) - 1
    assert all('--resume' in command for command in commands)
    assert len({command[5] for command in commands}) == len(commands)
    rows = camvid_rows(records)
    assert ('R50', 'end-to-end', '41.00', '40.00', '42.00', '0, 1', '-') in rows
    assert len(rows) == 2 * len(NUM_MODULES)
    assert '## Accuracy on CamVid' in write_page(tmp_path, {}, {})


def test_without_camvid_its_part_is_skipped_and_can_be_added_later(job, tmp_path):
    assert 'camvid' in left_out(job)
    run_parts(job, tmp_path, seconds=0)
    with_data = dataclasses.replace(job, camvid=str(tmp_path), seeds=(3,))
    assert run_parts(with_data, tmp_path, seconds=0)['camvid'] == 'not started'
    assert job_in(tmp_path) == with_data
    with pytest.raises(ValueError, match='with another seeds'):
        run_parts(dataclasses.replace(with_data, seeds=(4,)), tmp_path, seconds=0)


def test_a_missing_folder_is_told(tmp_path, capsys):
    with pytest.raises(SystemExit):
        gpu_proof.main(['--out', str(tmp_path), '--camvid', str(tmp_path / 'no')])
    assert 'no does not exist' in capsys.readouterr().err


def test_a_part_is_stopped_with_what_it_has_started():
    child = "import time; print('up', flush=True); time.sleep(600)"
    code = f'import subprocess, sys; subprocess.run([sys.executable, "-c", {child!r}])'
    process = subprocess.Popen(
        [sys.executable, '-c', code], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout.readline() == b'up\n'
    stop(process)
    assert process.returncode == -signal.SIGKILL
    # The child held the other end: it is closed only when that is gone, too.
    assert process.stdout.read() == b''


@pytest.mark.exhaustive
def test_a_run_on_camvid_gets_a_score_and_goes_on(job, tmp_path, monkeypatch):
    write_camvid(tmp_path / 'data')
    monkeypatch.setattr(camvid_module, 'NUM_MODULES', (2,))
    first = dict(list(camvid_module.NETWORKS.items())[:1])
    monkeypatch.setattr(camvid_module, 'NETWORKS', first)
    job = dataclasses.replace(
        job,
        camvid=str(tmp_path / 'data'),
        camvid_crop=(64, 64),
        iterations=2,
        seeds=(5,),
    )
    records = Records(tmp_path, 'camvid')
    camvid_part(job, records)
    (record,) = records
    assert record['num_modules'] == 2
    assert 0 <= record['miou'] <= 100
    config = next((tmp_path / 'camvid').glob('*/*.py')).read_text()
    assert "splits=['" in config.replace(' ', '').replace('\n', '')
    assert 'seed=5' in config.replace(' ', '')
