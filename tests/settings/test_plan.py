import json
import re

import pytest

from infopro_seg.settings.plan import Plan, PlannedModule

MODULE = PlannedModule(
    name='local_0',
    units=('stem', 'layer1.2'),
    num_units=4,
    parameter_bytes=1000,
    head_parameter_bytes=10,
    start_bytes=5,
    activation_bytes=60,
    head_bytes=7,
    peak_bytes=80,
    share=0.5,
    recompute=('layer1.0',),
    extra_flops=0.01,
)
PLAN = Plan(
    splits=('layer1.2',),
    recompute=('layer1.0', 'decode_head'),
    predicted_peak_bytes=80,
    end_to_end_peak_bytes=160,
    fits=True,
    batch_size=4,
    crop_size=(512, 1024),
    amp_dtype='float16',
    modules=(MODULE, MODULE),
    end_to_end=MODULE,
    assumptions=('one', 'two'),
)


def written(tmp_path, **changes):
    """A plan file with some keys changed; None removes."""
    path = tmp_path / 'plan.json'
    PLAN.save(path)
    content = {**json.loads(path.read_text()), **changes}
    content = {k: v for k, v in content.items() if v is not ...}
    path.write_text(json.dumps(content))
    return path


def test_a_plan_is_read_as_it_was_written(tmp_path):
    assert Plan.load(written(tmp_path)) == PLAN


def test_the_file_has_the_promised_keys(tmp_path):
    content = json.loads(written(tmp_path).read_text())
    assert content.keys() >= {
        'splits',
        'recompute',
        'predicted_peak_bytes',
        'end_to_end_peak_bytes',
        'checkpointing_peak_bytes',
        'flops_overhead',
        'fits',
        'assumptions',
    }


def test_a_plan_written_by_hand_needs_three_keys(tmp_path):
    path = tmp_path / 'hand.json'
    path.write_text(
        '{"splits": ["layer3.4"], "recompute": [], "predicted_peak_bytes": 0}'
    )
    assert Plan.load(path).splits == ('layer3.4',)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'nowhere\.json does not exist; make'):
        Plan.load(tmp_path / 'nowhere.json')


def test_what_is_no_json_is_refused(tmp_path):
    path = tmp_path / 'plan.json'
    path.write_text('splits: [layer1.2]')
    with pytest.raises(ValueError, match=r'plan\.json is not JSON'):
        Plan.load(path)
    path.write_text('[1]')
    with pytest.raises(ValueError, match=r'plan\.json must hold an object'):
        Plan.load(path)


@pytest.mark.parametrize('key', ['splits', 'recompute', 'predicted_peak_bytes'])
def test_a_missing_key_is_named(tmp_path, key):
    with pytest.raises(ValueError, match=rf"plan\.json lacks the key '{key}'"):
        Plan.load(written(tmp_path, **{key: ...}))


def test_an_unknown_key_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"plan\.json has the unknown key 'cuts'"):
        Plan.load(written(tmp_path, cuts=[]))


@pytest.mark.parametrize(
    ('key', 'value', 'wanted'),
    [
        ('splits', 'layer1.2', 'a list of names'),
        ('splits', [1], 'a list of names'),
        ('recompute', None, 'a list of names'),
        ('crop_size', ['512'], 'a list of integers'),
        ('predicted_peak_bytes', '3', 'int'),
        ('predicted_peak_bytes', True, 'int'),
        ('flops_overhead', 'much', 'float'),
        ('fits', 1, 'bool'),
        ('gpu_memory_bytes', 'all', 'int'),
    ],
)
def test_a_wrong_value_is_named(tmp_path, key, value, wanted):
    with pytest.raises(ValueError, match=rf"json: key '{key}' must be {wanted}, got"):
        Plan.load(written(tmp_path, **{key: value}))


def test_a_wrong_value_in_a_module_is_named(tmp_path):
    modules = json.loads(written(tmp_path).read_text())['modules']
    modules[1]['peak_bytes'] = None
    with pytest.raises(ValueError, match="'modules',: key 'peak_bytes' must be"):
        Plan.load(written(tmp_path, modules=modules))


NAMES = ['stem', 'layer1.0', 'layer1.2', 'layer2.0']


@pytest.mark.parametrize(
    'run',
    [
        {'unit_names': NAMES},
        {'batch_size': 4, 'crop_size': (512, 1024), 'amp_dtype': 'float16'},
        {'batch_size': 2, 'crop_size': (256, 256), 'amp_dtype': 'bfloat16'},
        {'batch_size': None, 'crop_size': None, 'amp_dtype': None},
    ],
)
def test_a_run_that_needs_no_more_than_planned_is_fine(run):
    assert PLAN.mismatch(**run) is None


@pytest.mark.parametrize(
    ('run', 'message'),
    [
        ({'batch_size': 8}, 'for batch_size 4, but this run has 8'),
        ({'crop_size': (769, 769)}, r'for crop size \(512, 1024\), .* \(769, 769\)'),
        ({'amp_dtype': 'float32'}, 'for precision float16, .* has float32'),
        ({'unit_names': ['stem', 'layer1.0']}, "another network: .*'layer1.2'"),
        ({'unit_names': ['stem', 'layer1.2']}, "another network: .*'layer1.0'"),
    ],
)
def test_a_run_that_the_plan_is_not_for_is_told(run, message):
    assert re.search(message, PLAN.mismatch(**run))
    assert 'tools/plan.py' in PLAN.mismatch(**run)


def test_what_a_plan_does_not_say_is_not_compared():
    hand = Plan(splits=(), recompute=('all:stepwise',), predicted_peak_bytes=0)
    run = {'batch_size': 9, 'crop_size': (9, 9), 'amp_dtype': 'float32'}
    assert hand.mismatch(unit_names=NAMES, **run) is None
