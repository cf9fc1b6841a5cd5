"""The tool on drawn streets at toy size: report, comparison, bad input."""

import json
import re
from pathlib import Path

import pytest
import torch

from infopro_seg.cli import probe
from infopro_seg.information import results
from infopro_seg.settings.config import read_config
from tests.helpers import build

_CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
_TOY = f"""
_base_ = {str(_CONFIGS / 'studies/streets_r18.py')!r}
model = dict(
    data_preprocessor=dict(size=(32, 64)),
    backbone=dict(base_channels=8),
    decode_head=dict(in_channels=64, channels=8, dilations=(1, 2)),
    auxiliary_head=dict(in_channels=32, channels=8))
train_dataloader = dict(dataset=dict(num_scenes=10, size=(32, 64)))
val_dataloader = dict(dataset=dict(num_scenes=2, size=(32, 64)))
total_batch_size = 2
"""
UNITS = ['layer1.1', 'layer4.1']


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Runs the tool in a folder with ``toy.py`` and a checkpoint of its network."""
    monkeypatch.chdir(tmp_path)
    Path('toy.py').write_text(_TOY)
    network = build(read_config('toy.py').model)
    torch.save({'state_dict': network.state_dict(), 'meta': {}}, 'a.pth')

    def run(*arguments, config='toy.py'):
        probe.main([config, *arguments, '--iterations', '2', '--out', 'out'])

    run.network = network
    return run


def numbers(kind='information'):
    return json.loads(Path(f'out/{kind}.json').read_text())


@pytest.mark.exhaustive
def test_networks_side_by_side(tool, capsys):
    # Neither auxiliary nor local heads matter here.
    weights = tool.network.state_dict()
    state_dict = {k: v for k, v in weights.items() if 'auxiliary' not in k}
    state_dict['local_heads.0.segmentation.conv_seg.bias'] = torch.zeros(19)
    torch.save(state_dict, 'b.pth')
    tool('first=a.pth', 'second network=b.pth', '--boundaries', *UNITS)
    printed = capsys.readouterr().out
    first, second = numbers()['methods']
    assert (first['name'], second['name']) == ('first', 'second network')
    assert [b['unit'] for b in first['boundaries']] == UNITS
    assert [b['unit_number'] for b in first['boundaries']] == [3, 9]
    # The same weights, images, probes: the same numbers.
    assert first['boundaries'] == second['boundaries']
    assert first['constant'] == second['constant']
    page = Path('out/information.md').read_text()
    assert printed.count('| layer4.1 ') == page.count('| layer4.1 ') == 2
    bits = f'{first["boundaries"][0]["image_information_bits"]:.3f}'
    assert re.search(rf'\| first +\| layer1\.1 .*\| +{bits} \|', page)
    assert 'bounds on I(h, y) may be too high' in page
    told = 'command: python tools/probe.py toy.py NAME=CHECKPOINT --iterations 2 '
    assert told + '--seed 0 --boundaries layer1.1 layer4.1 --head lean\n' in page
    for name in ('information', 'reconstructions_first'):
        assert Path(f'out/{name}.png').read_bytes().startswith(b'\x89PNG')
    assert Path('out/reconstructions_second-network.png').exists()

    # A later run adds to them; what is there is not replaced unasked.
    Path('out/information.md').write_text(page + '\nBy hand.\n')
    tool('a.pth', '--boundaries', 'layer2.0')
    assert [m['name'] for m in numbers()['methods']] == ['first', 'second network', 'a']
    assert Path('out/information.md').read_text().endswith('\nBy hand.\n')
    with pytest.raises(FileExistsError, match=r'has numbers of a: give .* NAME=FILE'):
        tool('a.pth')
    with pytest.raises(ValueError, match='numbers with seed=0, and this run has 1'):
        tool('b.pth', '--seed', '1')
    tool('a.pth', '--boundaries', 'stem', '--force')
    assert numbers()['methods'][-1]['boundaries'][0]['unit'] == 'stem'
    assert len(numbers()['methods']) == 3


@pytest.mark.exhaustive
def test_gradients_of_trained_and_of_given_heads(tool):
    gradients = ('--gradients', '--batches', '2')
    tool('new=a.pth', *gradients, '--local', 'num_modules=3', 'head.look_ahead=1')
    walls = {row['unit'] for row in numbers('gradients')['methods'][0]['modules']}
    assert len(walls) == 2
    (note,) = numbers('gradients')['methods'][0]['notes']
    assert 'trained for 2 iterations on the frozen network' in note
    cfg = read_config('toy.py')
    cfg.model.local = {'splits': ['layer2.1']}
    local = build(cfg.model)
    meta = {'local': {'splits': ['layer2.1'], 'recompute': []}}
    torch.save({'state_dict': local.state_dict(), 'meta': meta}, 'local.pth')
    tool('local.pth', *gradients, '--local', 'splits=layer2.1,')
    _, found = numbers('gradients')['methods']
    assert found['notes'] == ['local heads of the checkpoint; walls after layer2.1']
    kinds = [row['loss'] for row in found['modules']]
    assert kinds == ['reconstruction', 'segmentation', 'local head']
    assert all(-1 <= row['cosine']['mean'] <= 1 for row in found['modules'])
    page = Path('out/gradients.md').read_text()
    assert page.count('| local head ') == 3


def test_names_and_files_may_have_equals_signs(tool):
    Path('k=8').mkdir()
    for path in ('k=8/a.pth', 'b=1.pth'):
        torch.save({}, path)
    found = probe.named_files(['greedy K=8=k=8/a.pth', 'a.pth', 'b=1.pth'])
    assert {name: str(path) for name, path in found.items()} == {
        'greedy K=8': 'k=8/a.pth',
        'a': 'a.pth',
        'b=1': 'b=1.pth',
    }


def other_network():
    cfg = read_config('toy.py')
    cfg.model.backbone.base_channels = 4
    cfg.model.decode_head.in_channels = 32
    cfg.model.auxiliary_head.in_channels = 16
    return build(cfg.model).state_dict()


def test_bad_input_is_one_sentence_and_leaves_nothing(tool):
    torch.save({'state_dict': other_network()}, 'other.pth')
    Path('text.pth').write_text('no checkpoint')
    for arguments, error, told in (
        (['no.pth'], FileNotFoundError, r'^checkpoint no\.pth does not exist\.$'),
        (['x=no.pth'], FileNotFoundError, r'^checkpoint no\.pth does not exist\.$'),
        (['text.pth'], ValueError, r'^text\.pth cannot be read as '),
        (['other.pth'], ValueError, r'^other\.pth: .*do not belong together: \S+ is'),
        (['a.pth', './a.pth'], ValueError, "two checkpoints are named 'a'"),
        (
            ['a.pth', '--boundaries', 'layer2.7'],
            ValueError,
            r"^--boundaries: split 'layer2\.7' is not a unit .*Nearest: layer2",
        ),
        (['a.pth', '--gradients'], ValueError, 'add --local num_modules=4'),
    ):
        with pytest.raises(error, match=told):
            tool(*arguments)
    assert not Path('out').exists()
    Path('out').mkdir()
    Path('out/information.json').write_text('{"methods": 1}')
    with pytest.raises(ValueError, match=r'information\.json was not written by'):
        tool('a.pth')


def entry(name):
    facts = dict.fromkeys(('command', 'machine', 'versions', 'date'), name)
    cosine = {'cosine': 0.5, 'norm_ratio': 1.0}
    module = {'module': 0, 'units': 'a', **cosine}
    return {'name': name, 'modules': [module], 'facts': facts, 'notes': []}


def test_processes_that_add_at_the_same_time(tmp_path, monkeypatch):
    monkeypatch.setattr(results, 'gradient_table', lambda entries: str(len(entries)))
    settings = {'seed': 0}
    # Both have looked before the first one writes.
    for name in ('a', 'b'):
        results.check_results(tmp_path, 'gradients', settings, [name], force=False)
    assert results.add_result(tmp_path, 'gradients', settings, entry('a')) == '1'
    assert results.add_result(tmp_path, 'gradients', settings, entry('b')) == '2'
    page = (tmp_path / 'gradients.md').read_text()
    assert '- a: command: a' in page and '- b: command: b' in page
    # The other one was started with other settings.
    with pytest.raises(ValueError, match=r'numbers with seed=0, and this run has 1'):
        results.add_result(tmp_path, 'gradients', {'seed': 1}, entry('c'))
    # Replaced one by one: an interruption loses none.
    names = ['a', 'b']
    results.check_results(tmp_path, 'gradients', settings, names, force=True)
    results.add_result(tmp_path, 'gradients', settings, entry('a'))
    found = json.loads((tmp_path / 'gradients.json').read_text())['methods']
    assert [method['name'] for method in found] == ['b', 'a']


def test_names_with_one_file_of_pictures(tmp_path):
    with pytest.raises(
        ValueError, match="'greedy K=8' and 'greedy K-8' would have one"
    ):
        results.check_results(
            tmp_path, 'information', {}, ['greedy K=8', 'greedy K-8'], force=False
        )


def test_other_networks_and_data_are_not_compared(tool):
    tool('a.pth', '--gradients', '--local', 'num_modules=2', '--batches', '1')
    text = Path('toy.py').read_text()
    for change in (
        'train_dataloader = dict(dataset=dict(seed=5))',
        'val_dataloader = dict(dataset=dict(num_scenes=3))',
        'model = dict(decode_head=dict(dropout_ratio=0.3))',
    ):
        Path('other.py').write_text(f"_base_ = 'toy.py'\n{change}\n")
        with pytest.raises(ValueError, match='numbers with network_and_data='):
            tool(
                *('b=a.pth', '--gradients', '--local', 'num_modules=2'),
                config='other.py',
            )
    # Under another name, or elsewhere, it is the same.
    Path('renamed.py').write_text(text)
    tool(
        *('c=a.pth', '--gradients', '--local', 'num_modules=2', '--batches', '1'),
        config='renamed.py',
    )
    assert [method['name'] for method in numbers('gradients')['methods']] == ['a', 'c']


def test_a_config_without_validation(tool):
    Path('no_val.py').write_text(
        "_base_ = './toy.py'\n"
        'val_dataloader = None\nval_cfg = None\nval_evaluator = None\n'
    )
    with pytest.raises(ValueError, match=r'^no_val\.py has no val_dataloader, which'):
        tool('a.pth', config='no_val.py')


def test_labels_without_a_class_are_told(tool):
    cfg = read_config('toy.py')
    cfg.model.decode_head.num_classes = cfg.model.auxiliary_head.num_classes = 3
    torch.save({'state_dict': build(cfg.model).state_dict()}, 'three.pth')
    Path('three.py').write_text(
        "_base_ = './toy.py'\n"
        'model = dict(decode_head=dict(num_classes=3),\n'
        '    auxiliary_head=dict(num_classes=3))\n'
    )
    with pytest.raises(ValueError, match='holds the values .* has 3 classes'):
        tool('three.pth', config='three.py')
    assert not Path('out/information.json').exists()


@pytest.mark.parametrize(
    ('arguments', 'told'),
    [
        (['--local', 'num_modules=2'], '--local needs --gradients'),
        (['--gradients', '--boundaries', 'stem'], 'use --local splits='),
        (['--iterations', '0'], 'must be above 0'),
    ],
)
def test_options_that_do_not_fit(arguments, told, capsys):
    with pytest.raises(SystemExit):
        probe.parse_args(['any.py', 'any.pth', *arguments])
    assert told in capsys.readouterr().err
