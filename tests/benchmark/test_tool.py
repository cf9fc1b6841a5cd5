import json

import pytest
import torch

from infopro_seg.benchmark.facts import require_device
from tests.commands import run_tool
from tests.planner.networks import tiny


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp('config') / 'tiny.py'
    model = {**tiny(), 'type': 'EncoderDecoder'}
    model['data_preprocessor'] = {**model['data_preprocessor'], 'size': (64, 96)}
    del model['local']
    path.write_text(
        "default_scope = 'mmseg'\n"
        f'model = {model!r}\n'
        'train_dataloader = dict(batch_size=2)\n'
        "optim_wrapper = dict(type='OptimWrapper',"
        " optimizer=dict(type='SGD', lr=0.1, momentum=0.9))\n"
    )
    return path


@pytest.mark.exhaustive
def test_numbers_are_printed_written_and_drawn(config, tmp_path):
    out, picture = tmp_path / 'b.json', tmp_path / 'b.png'
    arguments = (config, '--num-modules', 2, '--steps', 2, '--warmup', 2)
    arguments += ('--gpu-memory', '1GiB', '--reserve', '1MiB', '--json', out)
    result = run_tool('benchmark.py', *arguments)
    assert result.returncode == 0, result.stderr
    assert 'local+recompute K=2' in result.stdout
    assert 'best plan' in result.stdout
    numbers = json.loads(out.read_text())
    assert [len(m['seconds']) for m in numbers['methods']] == [2] * 4
    assert numbers['seed'] == 0
    assert numbers['command'].startswith('python tools/benchmark.py')
    again = run_tool('benchmark.py', *arguments)
    assert again.returncode == 2
    assert 'pass --force to overwrite' in again.stderr
    drawn = run_tool('analysis/plot_benchmark.py', out, picture)
    assert drawn.returncode == 0, drawn.stderr
    assert picture.read_bytes().startswith(b'\x89PNG')


@pytest.mark.skipif(torch.cuda.is_available(), reason='is about machines without GPU')
def test_a_missing_gpu_is_told():
    with pytest.raises(RuntimeError, match='no CUDA device is available'):
        require_device('cuda', None)


def test_mixed_precision_on_a_cpu_is_refused():
    with pytest.raises(RuntimeError, match='--amp bfloat16 needs --device cuda'):
        require_device('cpu', 'bfloat16')
