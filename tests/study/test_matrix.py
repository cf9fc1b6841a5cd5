"""A study file is read, and what is wrong in it is told in one sentence."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from infopro_seg.cli.check_model import check_model
from infopro_seg.study.checks import check_jobs
from infopro_seg.study.estimate import run_seconds
from infopro_seg.study.job import (
    Places,
    jobs_of,
    method_config,
    run_config,
)
from infopro_seg.study.matrix import read_study
from infopro_seg.study.step_cost import step_cost

STUDIES = sorted((Path(__file__).parents[2] / 'configs/studies').glob('*.yaml'))


def changed(content, **changes):
    return {**content, **changes}


def with_row(content, **row):
    return changed(content, rows=[*content['rows'], row])


def test_runs_are_in_the_order_of_rows_and_seeds(content, write):
    content['rows'][1]['seeds'] = [7]
    jobs = jobs_of(read_study(write(content)))
    assert [job.name for job in jobs] == [
        'end-to-end, seed 0',
        'end-to-end, seed 3',
        'InfoPro K=2, seed 7',
    ]
    assert jobs[2].slug == 'infopro-k-2_seed7'
    assert len({job.digest for job in jobs}) == 3


def test_a_row_may_last_longer_than_the_others(content, write):
    content['rows'][1].update(iterations=12, validation_interval=6)
    row = {'options': {'total_batch_size': 1}, 'local': {'splits': []}, 'seeds': [0]}
    content['rows'].append({'name': 'smaller', **row})
    study = read_study(write(content))
    first, *_, longer, smaller = jobs_of(study)
    assert [job.row.iterations for job in (first, longer, smaller)] == [4, 12, 4]
    assert longer.settings['iterations'] == 12
    cfg = run_config(longer, Places(Path('out'), Path('results')), Path('start.pth'))
    assert cfg.train_cfg.max_iters == 12 and cfg.train_cfg.val_interval == 6
    assert cfg.param_scheduler[0].end == 12
    record = {'run_seconds': 10.0}
    assert run_seconds(longer, {first: record}) == 30.0
    assert run_seconds(smaller, {first: record}) == 5.0
    assert run_seconds(longer, {first: record, longer: {'run_seconds': 40.0}}) == 40.0


@pytest.mark.parametrize(
    ('change', 'told'),
    [
        ({'iterations': 1}, 'validation_interval: 2 must be from 1 to iterations=1.'),
        ({'validation_interval': 5}, 'validation_interval: 5 must be from 1 to '),
        ({'iterations': 0}, 'iterations: 0 must be from 1 to iterations=0.'),
        ({'iterations': 'many'}, "iterations must be a whole number, got 'many'."),
    ],
)
def test_a_wrong_entry_of_a_row_is_told_with_its_name(content, write, change, told):
    content['rows'][1].update(change)
    with pytest.raises((ValueError, TypeError), match=re.escape(told)) as error:
        read_study(write(content))
    assert "row 'InfoPro K=2': " in str(error.value)


def test_the_cost_of_a_step_is_that_of_the_batch_and_optimizer_of_a_row(
    content, write, tmp_path
):
    sizes = {'plain': {}, 'larger': {'total_batch_size': 4}}
    sizes['accumulated'] = {'optim_wrapper.accumulative_counts': 2}
    sizes['no momentum'] = {'optim_wrapper.optimizer.momentum': 0.0}
    for name, options in sizes.items():
        row = {'name': name, 'local': {'splits': []}, 'options': options, 'seeds': [0]}
        content['rows'].append(row)
    jobs = {job.row.name: job for job in jobs_of(read_study(write(content)))}
    places = Places(tmp_path, tmp_path)
    first, larger, accumulated, without = (
        step_cost(jobs[name], places) for name in sizes
    )
    assert larger.peak_bytes > 1.3 * first.peak_bytes > without.peak_bytes
    assert without.peak_bytes < first.peak_bytes
    assert accumulated.peak_bytes > first.peak_bytes
    assert larger.flops == 2 * first.flops and without.flops == first.flops


def test_the_work_of_steps_of_two_kinds_is_their_mean(content, write, tmp_path):
    for name, period in {'local': None, 'every 4th': 4, 'exact': 1}.items():
        local = {'num_modules': 2, 'end_to_end_every': period}
        content['rows'].append({'name': name, 'local': local, 'seeds': [0]})
    jobs = {job.row.name: job for job in jobs_of(read_study(write(content)))}
    places = Places(tmp_path, tmp_path)
    local, both, exact = (
        step_cost(jobs[name], places) for name in ('local', 'every 4th', 'exact')
    )
    # Local heads train in exact steps, too, where there are other steps.
    heads = 4 * both.flops - 3 * local.flops - exact.flops
    assert 0 < heads < 0.2 * local.flops
    assert both.peak_bytes > local.peak_bytes


@pytest.mark.parametrize(
    ('change', 'told'),
    [
        ({'iteration': 3}, "entry 'iteration' is unknown; did you mean 'iterations'?"),
        ({'iterations': '9'}, "iterations must be a whole number, got '9'."),
        ({'iterations': True}, 'iterations must be a whole number, got True.'),
        ({'validation_interval': 5}, 'validation_interval: 5 must be from 1 to '),
        ({'checkpoint_interval': 0}, 'checkpoint_interval: 0 must be from 1 to '),
        ({'name': 'a/b'}, "name: 'a/b' names files"),
        ({'seeds': []}, 'there must be at least one seed.'),
        ({'seeds': [1, 1]}, '1 is in the seeds of '),
        ({'seeds': [-1]}, 'seed -1 must be a number from 0 on.'),
        ({'rows': []}, 'rows: there must be at least one.'),
        ({'rows': [3]}, 'a row without a name must be a mapping, got 3.'),
        ({'baseline': 'end2end'}, "row 'end2end' is unknown; did you mean"),
        ({'validate_on': 'test'}, "validate_on 'test' is unknown; allowed: val, "),
        ({'seconds_per_iteration': 0}, 'seconds_per_iteration: 0 must be above 0.'),
        ({'pretrained': 'yes'}, "pretrained must be true or false, got 'yes'."),
    ],
)
def test_a_wrong_entry_is_told(content, write, change, told):
    path = write(changed(content, **change))
    with pytest.raises((ValueError, TypeError), match=re.escape(told)) as error:
        read_study(path)
    assert str(error.value).startswith(str(path))


def test_what_is_missing_is_told(content, write, tmp_path):
    del content['seeds'], content['iterations']
    with pytest.raises(ValueError, match='iterations, seeds is missing'):
        read_study(write(content))
    with pytest.raises(FileNotFoundError, match='none.yaml does not exist'):
        read_study(tmp_path / 'none.yaml')
    (tmp_path / 'broken.yaml').write_text('rows: [a\nb')
    with pytest.raises(ValueError, match='broken.yaml is no YAML: '):
        read_study(tmp_path / 'broken.yaml')


@pytest.mark.parametrize(
    ('text', 'told'),
    [
        ('seeds: [0]\nname: a\nseeds: [5]', "'seeds' is there twice, in lines 1 and 3"),
        ('rows:\n  - {name: a, options: {lr: 1}, options: {lr: 2}}', "entry 'options'"),
        ('rows:\n  - name: a\n    local: {splits: [], splits: [a]}', "entry 'splits'"),
    ],
)
def test_an_entry_that_is_there_twice_is_told(tmp_path, text, told):
    path = tmp_path / 'twice.yaml'
    path.write_text(text)
    with pytest.raises(ValueError, match=f'twice.yaml: .*{told}'):
        read_study(path)


def test_what_two_mappings_share_is_no_double(content, write):
    path = write(content)
    path.write_text(
        path.read_text().replace(
            'local:\n    num_modules: 2',
            'local: {<<: {num_modules: 3}, num_modules: 2}',
        )
    )
    assert '<<' in path.read_text()
    assert read_study(path).rows[1].local == {'num_modules': 2}


def test_numbers_are_read_as_in_yaml_1_2(content, write):
    path = write({**content, 'options': {'a': 'A', 'b': 'B', 'c': 'C'}})
    text = path.read_text()
    for letter, number in {'A': '1e-3', 'B': '-2E4', 'C': '"1e-3"'}.items():
        text = text.replace(f': {letter}\n', f': {number}\n')
    path.write_text(text)
    options = read_study(path).rows[0].options
    assert options == {'a': 0.001, 'b': -2e4, 'c': '1e-3'}


def test_two_rows_of_one_name_are_refused(content, write):
    again = with_row(content, name='infopro k 2', local={'num_modules': 4})
    with pytest.raises(ValueError, match="'infopro-k-2' is the name of two rows"):
        read_study(write(again))


def test_a_missing_config_is_told(content, write):
    with pytest.raises(FileNotFoundError, match='config toi.py does not exist in'):
        read_study(write(changed(content, config='toi.py')))


@pytest.mark.parametrize(
    ('row', 'told'),
    [
        ({'local': {'num_module': 2}}, 'num_module'),
        ({'local': {'splits': ['layer9.1']}}, 'layer9.1'),
        ({'local': {}, 'options': {'model.decode_haed': 1}}, 'decode_haed'),
        (
            {'local': {}, 'options': {'model.decode_haed.channels': 1}},
            'did you mean model.decode_head.channels?',
        ),
        ({'local': {}, 'options': {'optim.lr': 1}}, 'option optim.lr names nothing'),
        ({'local': {}, 'options': {'train_cfg.max_iters': 9}}, 'sets train_cfg itself'),
    ],
)
def test_a_wrong_setting_of_a_method_is_told_before_any_run(
    content, write, tmp_path, row, told
):
    study = read_study(write(with_row(content, name='wrong', **row)))
    places = Places(tmp_path / 'out', tmp_path / 'results')
    with pytest.raises((ValueError, TypeError), match=told) as error:
        check_jobs(study, places, check_model)
    assert str(error.value).startswith("row 'wrong': ")


@pytest.mark.parametrize(
    ('options', 'told'),
    [
        (
            {'model.decode_head.dropout_ration': 0.2},
            "model cannot be .*'dropout_ration'",
        ),
        ({'optim_wrapper.optimizer.weight_decy': 1}, 'optim_wrapper cannot be built: '),
        ({'optim_wrapper.optimizer.type': 'SGDD'}, 'optim_wrapper cannot be built: '),
        ({'optim_wrapper.optimizer.lr': -1}, 'optim_wrapper cannot be built: .*-1'),
        ({'param_scheduler.0.pwoer': 0.5}, "param_scheduler cannot .*'pwoer'"),
        ({'val_evaluator.type': 'IoUMetrics'}, 'must be an IoUMetric'),
        ({'default_hooks.logger.intervall': 9}, "hook LoggerHook .*'intervall'"),
        ({'train_dataloader.dataset.num_scene': 5}, 'train_dataloader.dataset cannot'),
        ({'val_dataloader.dataset.seeds': 5}, 'val_dataloader.dataset cannot'),
        # Without effect: a run would be a copy of another one.
        ({'image_size': [16, 32]}, 'option image_size changes nothing that is trained'),
        (
            {'norm_cfg.type': 'GN'},
            'nothing .* scored; did you mean model.backbone.norm_',
        ),
        ({'train_dataloader.batch_size': 1}, 'did you mean total_batch_size?'),
        ({'test_evaluator.iou_metrics': ['mDice']}, 'changes nothing that is trained'),
        ({'max_iters': 9}, r'max_iters changes nothing that is trained or scored\.$'),
        ({'model.backbone.init_cfg': None}, 'the study sets model.backbone.init_cfg'),
    ],
)
def test_an_option_that_cannot_work_is_told_before_any_run(
    content, write, tmp_path, options, told
):
    row = {'name': 'wrong', 'local': {'splits': []}, 'options': options}
    study = read_study(write(with_row(content, **row)))
    places = Places(tmp_path / 'out', tmp_path / 'results')
    with pytest.raises(ValueError, match=told) as error:
        check_jobs(study, places, check_model)
    assert str(error.value).startswith("row 'wrong': ")
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'options',
    [
        {'total_batch_size': 1},
        # Of the config already.
        {'image_size': [128, 256]},
        {'param_scheduler': []},
        {'optim_wrapper.accumulative_counts': 2},
        {'model.decode_head.dropout_ratio': 0.0},
        {'train_dataloader.dataset.num_scenes': 8},
    ],
    ids=lambda options: next(iter(options)),
)
def test_an_option_that_changes_something_is_accepted(
    content, write, tmp_path, options
):
    content['options'] = options
    content['rows'][1]['options'] = {'model.auxiliary_head': None}
    study = read_study(write(content))
    check_jobs(study, Places(tmp_path / 'out', tmp_path / 'results'), check_model)


def test_an_option_of_all_rows_need_not_matter_to_each(content, write, tmp_path):
    content['options'] = {'model.auxiliary_head.channels': 4}
    content['rows'][1]['options'] = {'model.auxiliary_head': None}
    study = read_study(write(content))
    check_jobs(study, Places(tmp_path / 'out', tmp_path / 'results'), check_model)
    content['rows'][0]['options'] = {'model.auxiliary_head': None}
    study = read_study(write(content))
    with pytest.raises(ValueError, match='option model.auxiliary_head.channels chang'):
        check_jobs(study, Places(tmp_path / 'out', tmp_path / 'results'), check_model)


def test_weights_are_asked_for_where_they_are_used_and_only_there(
    content, write, tmp_path
):
    study = read_study(write(content))
    places = Places(tmp_path / 'out', tmp_path / 'results', weights=__file__)
    with pytest.raises(ValueError, match='toy trains from scratch: leave out --wei'):
        check_jobs(study, places, check_model)
    study = read_study(write(changed(content, pretrained=True)))
    with pytest.raises(ValueError, match='give their file, --weights FILE'):
        check_jobs(study, Places(tmp_path, tmp_path), check_model)


def build_backbone(config):
    init_default_scope('mmseg')
    return MODELS.build({**config, 'init_cfg': None})


@pytest.mark.exhaustive
@pytest.mark.parametrize('path', STUDIES, ids=lambda path: path.stem)
def test_the_studies_of_the_package_have_right_settings(path, tmp_path):
    study = read_study(path)
    configs = {row.local.get('num_modules'): method_config(row) for row in study.rows}
    for cfg in configs.values():
        check_model(cfg)
    if study.pretrained:
        weights = tmp_path / 'weights.pth'
        backbone = build_backbone(method_config(study.rows[0]).model.backbone)
        torch.save(backbone.state_dict(), weights)
        missing = Places(tmp_path, tmp_path, str(tmp_path / 'data'), str(weights))
        with pytest.raises(FileNotFoundError, match='no folder .*data'):
            check_jobs(study, missing, check_model)
