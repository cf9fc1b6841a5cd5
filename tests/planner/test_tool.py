import argparse
import json
import re

import pytest

from infopro_seg.cli import plan as plan_command
from infopro_seg.planner.from_config import setting_of
from infopro_seg.planner.make import RESERVE_BYTES, Setting, make_plan
from infopro_seg.settings import LocalSettings
from infopro_seg.settings.config import read_config
from infopro_seg.settings.plan import Plan
from tests.commands import run_tool
from tests.planner.networks import BATCH, CROP, tiny


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """A config file of the tiny network."""
    path = tmp_path_factory.mktemp('config') / 'tiny.py'
    model = {**tiny(), 'type': 'EncoderDecoder'}
    model['data_preprocessor'] = {**model['data_preprocessor'], 'size': CROP}
    del model['local']
    path.write_text(
        "default_scope = 'mmseg'\n"
        f'model = {model!r}\n'
        f'train_dataloader = dict(batch_size={BATCH})\n'
        "optim_wrapper = dict(type='OptimWrapper',"
        " optimizer=dict(type='AdamW', lr=0.1))\n"
    )
    return path


def run(*args, tool='plan.py'):
    return run_tool(tool, *args)


@pytest.mark.slow
def test_a_plan_is_printed_written_and_drawn(config, tmp_path):
    out, plot = tmp_path / 'plan.json', tmp_path / 'plan.png'
    arguments = (config, '--num-modules', 2, '--out', out, '--plot', plot)
    result = run(*arguments)
    assert result.returncode == 0, result.stderr
    assert 'local_1' in result.stdout
    plan = Plan.load(out)
    assert len(plan.splits) == 1
    assert (plan.batch_size, plan.crop_size) == (BATCH, CROP)
    assert plot.read_bytes().startswith(b'\x89PNG')
    assert json.loads(out.read_text())['assumptions']
    again = run(*arguments)
    assert again.returncode == 2
    assert 'pass --force to overwrite' in again.stderr


@pytest.mark.exhaustive
def test_localize_writes_what_the_planner_chose(config, tmp_path):
    out, none = tmp_path / 'mine.py', tmp_path / 'none.py'
    memory = RESERVE_BYTES + 150 * 2**20
    result = run(config, out, '--local', f'gpu_memory={memory}B', tool='localize.py')
    assert result.returncode == 0, result.stderr
    assert 'planned: ' in result.stdout
    found = read_config(out)
    local = LocalSettings.parse(found.model.local)
    plan = make_plan(setting_of(str(config)), gpu_memory=memory, prefer='accuracy')
    assert len(plan.splits) + 1 == result.stdout.count('  local_')
    assert local.splits or local.recompute
    assert local.recompute == plan.recompute
    assert local.splits == plan.splits
    assert local.end_to_end_every == plan.end_to_end_every
    assert 'gpu_memory' not in found.model.local
    result = run(config, none, '--local', 'gpu_memory=3.2GiB', tool='localize.py')
    assert result.returncode == 1
    assert 'nothing fits in gpu_memory=3.20 GiB' in result.stderr
    assert not none.exists()


@pytest.mark.exhaustive
def test_the_exit_code_says_that_nothing_fits(config, tmp_path):
    result = run(
        config, '--gpu-memory', '1MB', '--reserve', '1B', '--out', tmp_path / 'p.json'
    )
    assert result.returncode == 1, result.stderr
    assert 'the smallest possible peak is' in result.stdout
    assert Plan.load(tmp_path / 'p.json').fits is False


@pytest.mark.parametrize(
    ('step', 'text'),
    [
        (1, ', whatever the crop'),
        (
            2,
            ': the smallest crop that this network takes is 64x96; use a smaller batch',
        ),
    ],
)
def test_a_network_with_a_smallest_crop_is_told_from_others(monkeypatch, step, text):
    monkeypatch.setattr(plan_command, 'smallest_crop_step', lambda setting: step)
    setting = Setting(tiny(), BATCH, (64, 96))
    found = plan_command.nothing_smaller(argparse.Namespace(max_batch=False), setting)
    assert found.startswith(text)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((), 'give --gpu-memory, --num-modules, --recompute least or several'),
        (('--max-batch', '--num-modules', '2'), 'need --gpu-memory'),
    ],
)
def test_wrong_arguments_are_told(config, arguments, message):
    result = run(config, *arguments)
    assert result.returncode == 2
    assert message in result.stderr


@pytest.mark.exhaustive
def test_predictions_are_checked_against_whole_steps(config):
    arguments = ('--batch-size', BATCH, '--crop-size', *CROP, '--num-modules', 3)
    result = run(config, *arguments, tool='analysis/check_predictions.py')
    assert result.returncode == 0, result.stderr
    found = dict(re.findall(r'(\d+ \w+) plans, largest error (\S+)%', result.stdout))
    even, chosen = found
    assert even == '10 even'
    assert int(chosen.split()[0]) >= 9
    assert all(-1 < float(error) < 3 for error in found.values())


@pytest.mark.exhaustive
def test_the_prediction_of_one_plan_is_checked(config):
    arguments = ('--batch-size', BATCH, '--crop-size', *CROP, '--splits', 'layer2.0')
    arguments = (*arguments, '--local', 'head=paper', 'lean_loss=False')
    result = run(config, *arguments, tool='analysis/check_predictions.py')
    assert result.returncode == 0, result.stderr
    predicted, needs = re.findall(r'([0-9.]+) GiB', result.stdout)
    assert predicted == needs


@pytest.mark.exhaustive
def test_a_table_shows_the_plans_of_a_network(config):
    arguments = ('--batch-size', BATCH, '--crop-size', *CROP, '--num-modules', 1, 3)
    result = run(config, *arguments, tool='analysis/plan_table.py')
    assert result.returncode == 0, result.stderr
    lines = re.sub(' +', ' ', result.stdout).splitlines()
    assert lines[0] == '| | K=1 | K=3 | best |'
    rows = {line.split(' | ')[0]: line.split(' | ')[1:] for line in lines}
    whole, three, _ = rows['| no recompute']
    assert whole == '100.0% (K=1)'
    assert three.endswith('% (K=3)')
    least, above = (
        [float(cell.split('%')[0]) for cell in rows[name]]
        for name in ('| least memory', '| 10% above it')
    )
    assert all(a <= 1.1 * b + 0.1 for a, b in zip(above, least, strict=True))
    assert any('within 16%' in line for line in lines)
    exact = [line.split(' | ') for line in lines if line.startswith('| ')]
    assert exact[-1][1] in '1234567'
    assert float(exact[-1][3].rstrip(' |')) >= 1
