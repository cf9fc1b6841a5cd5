import dataclasses
import json
import re
from pathlib import Path

import pytest
from mmengine.config import Config

from infopro_seg.models.recompute.run import resolve_recompute
from infopro_seg.planner import Plan, make
from infopro_seg.planner.from_config import setting_of_run, settle_cuts
from infopro_seg.planner.limits import (
    CARDS_GIB,
    along_the_dial,
    largest_batch,
    largest_crop,
    what_fits,
    with_lean_heads,
)
from infopro_seg.planner.make import Setting, make_plan, plan_in_use
from infopro_seg.planner.profile.simulation import SimulationError
from infopro_seg.planner.search import decide, frontiers
from infopro_seg.report.plan_text import (
    dial_report,
    fits_report,
    lean_heads_line,
    plan_report,
)
from infopro_seg.settings.sizes import gib
from tests.helpers import build, losses_of
from tests.planner.networks import BATCH, CROP, tiny

SETTING = Setting(tiny(), BATCH, CROP)


@pytest.fixture(scope='module', autouse=True)
def measured_once(tmp_path_factory):
    """All tests of this file share measurements."""
    chains = {}
    original = make.cached

    def remembered(key, measure):
        name = repr(sorted(key.items(), key=str))
        if name not in chains:
            chains[name] = measure()
        return chains[name]

    make.cached = remembered
    yield
    make.cached = original


@pytest.fixture(scope='module')
def whole():
    """Peaks of end-to-end training."""
    return make_plan(SETTING, num_modules=1, verify=False)


def between(whole, part):
    """Memory between that of the smallest plan (0) and of end-to-end training (1)."""
    least = make_plan(
        SETTING, gpu_memory=1, reserve=0, verify=False
    ).smallest_peak_bytes
    return int(least + part * (whole.end_to_end_peak_bytes - least))


@pytest.mark.parametrize(
    ('local', 'wish'),
    [
        ({}, {'num_modules': 3}),
        ({}, {'num_modules': 3, 'recompute': 'always'}),
        ({'end_to_end_every': 1}, {'num_modules': 3}),
        ({'end_to_end_every': 3}, {'num_modules': 2}),
    ],
    ids=repr,
)
def test_cuts_in_use_are_predicted_as_when_they_were_planned(local, wish):
    setting = Setting(tiny(**local), BATCH, CROP)
    plan = make_plan(setting, **wish, verify=False)
    names = [unit.name for unit in setting.measured().units]
    modes = resolve_recompute(plan.recompute, names)
    found = plan_in_use(setting, plan.splits, modes, plan.end_to_end_every)
    for field in dataclasses.fields(Plan):
        if field.name not in ('smallest_peak_bytes', 'reserve_bytes', 'assumptions'):
            name = field.name
            assert getattr(found, name) == getattr(plan, name), name


def test_a_number_of_modules_is_balanced(whole):
    plan = make_plan(SETTING, num_modules=3)
    assert len(plan.splits) == 2
    assert plan.recompute == ()
    assert plan.fits is None
    assert plan.predicted_peak_bytes < whole.end_to_end_peak_bytes
    assert plan.tracked_peak_bytes == pytest.approx(
        plan.predicted_peak_bytes, rel=0.003
    )
    assert whole.splits == ()
    assert whole.predicted_peak_bytes == whole.end_to_end_peak_bytes
    assert whole.flops_ratio == 1


def test_what_fits_end_to_end_is_not_cut(whole):
    memory = whole.end_to_end_peak_bytes
    plan = make_plan(SETTING, gpu_memory=memory + 100, reserve=0)
    assert (plan.splits, plan.recompute, plan.fits) == ((), (), True)
    assert plan.flops_overhead == 0


@pytest.mark.parametrize('part', [0.7, 0.1])
def test_a_plan_fits_its_memory(whole, part):
    memory = between(whole, part)
    plan = make_plan(SETTING, gpu_memory=memory + 10**6, reserve=10**6)
    assert plan.fits
    assert plan.tracked_peak_bytes <= memory
    assert plan.flops_overhead > 0
    assert plan.gpu_memory_bytes == memory + 10**6
    never = make_plan(
        SETTING, gpu_memory=memory, reserve=0, recompute='never', verify=False
    )
    assert never.recompute == ()
    assert not never.fits or never.flops_overhead >= plan.flops_overhead


def test_what_cannot_fit_gives_the_smallest_peak(whole):
    plan = make_plan(SETTING, gpu_memory=10**6, reserve=0)
    assert plan.fits is False
    assert plan.predicted_peak_bytes == plan.smallest_peak_bytes
    assert 10**6 < plan.smallest_peak_bytes < whole.end_to_end_peak_bytes


def test_the_least_memory_can_be_asked_for(whole):
    least = make_plan(SETTING, recompute='least')
    assert least.predicted_peak_bytes == least.smallest_peak_bytes
    assert least.predicted_peak_bytes == whole.smallest_peak_bytes
    assert least.tracked_peak_bytes == pytest.approx(
        least.predicted_peak_bytes, rel=0.003
    )
    two = make_plan(SETTING, num_modules=2, recompute='least', verify=False)
    assert len(two.splits) == 1
    assert two.predicted_peak_bytes >= least.predicted_peak_bytes
    memory = two.predicted_peak_bytes
    settings = {
        'num_modules': 2,
        'recompute': 'least',
        'reserve': 0,
        'verify': False,
        'exact': False,
    }
    assert make_plan(SETTING, gpu_memory=memory, **settings).fits
    assert not make_plan(SETTING, gpu_memory=memory - 1, **settings).fits


def test_always_recomputes_everything():
    plan = make_plan(SETTING, num_modules=2, recompute='always', verify=False)
    assert 'decode_head' in plan.recompute
    assert len(plan.recompute) == 8


def test_a_wrong_prediction_is_corrected_by_the_check(whole, monkeypatch):
    # A step that needs more than predicted makes the planner leave more room.
    honest = Setting.tracked_peak
    more = 2 * 10**5

    def tracked(self, splits, recompute, **kind):
        return honest(self, splits, recompute, **kind) + more

    monkeypatch.setattr(Setting, 'tracked_peak', tracked)
    memory = between(whole, 0.5)
    plan = make_plan(SETTING, gpu_memory=memory, reserve=0)
    assert plan.fits
    assert plan.predicted_peak_bytes + more <= memory + 1000


def test_settings_are_checked():
    with pytest.raises(ValueError, match='give num_modules, gpu_memory or both'):
        make_plan(SETTING)
    with pytest.raises(ValueError, match='num_modules=12 is out of range.*7 units'):
        make_plan(SETTING, num_modules=12)


def run_config(**local):
    return Config(
        {
            'default_scope': 'mmseg',
            'model': tiny(**local),
            'train_dataloader': {'batch_size': BATCH},
            'optim_wrapper': {'optimizer': {'type': 'SGD', 'lr': 0.1}},
        }
    )


def with_local(cfg, **local):
    cfg.model.local = local
    cfg.model.data_preprocessor.size = CROP
    return cfg


def test_a_gpu_of_less_than_the_reserve_is_answered_at_once():
    with pytest.raises(ValueError, match=r'1.00 GiB has .*3.10 GiB.*--reserve'):
        make_plan(SETTING, gpu_memory=2**30)


def test_an_own_reserve_is_not_said_to_be_the_papers():
    text = plan_report(make_plan(SETTING, gpu_memory=2**33, reserve=2**30))
    assert 'the paper' not in text
    assert 'of the paper' in plan_report(make_plan(SETTING, gpu_memory=2**33))


def test_a_model_is_built_from_what_is_settled(whole):
    memory = between(whole, 0.5) + make.RESERVE_BYTES
    cfg = with_local(run_config(), gpu_memory=f'{memory}B')
    settle_cuts(cfg)
    model = build(cfg.model)
    assert len(model.local_modules) == len(cfg.model.local.splits) + 1
    losses_of(model)


def test_a_plan_for_less_is_refused_and_one_for_this_run_is_only_read(tmp_path):
    path = str(tmp_path / 'plan.json')
    plan = Plan(('layer2.0',), ('layer1.0',), 0, batch_size=BATCH, crop_size=CROP)
    plan.save(path)
    cfg = with_local(run_config(), plan=path)
    settle_cuts(cfg)
    assert build(cfg.model).local['splits'] == ['layer2.0']
    cfg.train_dataloader.batch_size = BATCH + 1
    with pytest.raises(ValueError, match=f'batch_size {BATCH}, but this run has'):
        settle_cuts(cfg)


def head_of_256_channels(cfg):
    cfg.model.local.head = {'segmentation': {'channels': 256}}


def looks_ahead(cfg):
    cfg.model.local.head = {'look_ahead': 2}


def adamw(cfg):
    cfg.optim_wrapper.optimizer = {'type': 'AdamW', 'lr': 0.1}


def stock_losses(cfg):
    cfg.model.local.lean_loss = False
    cfg.model.decode_head.num_classes = 400


def wider(cfg):
    cfg.model.decode_head.channels *= 8


def another_rate(cfg):
    cfg.optim_wrapper.optimizer.lr = 0.2


def no_reconstruction(cfg):
    cfg.model.local.weights = {'reconstruction': 0.0}


NEEDS_MORE = {
    head_of_256_channels: 'head',
    looks_ahead: 'look_ahead',
    adamw: 'optimizer',
    stock_losses: 'network and lean_loss',
    wider: 'network',
}


@pytest.fixture(scope='module')
def planned(tmp_path_factory):
    """A plan of this file's run, as tools/plan.py writes it."""
    path = str(tmp_path_factory.mktemp('plan') / 'plan.json')
    cfg = with_local(run_config(), splits=[])
    plan = make_plan(setting_of_run(cfg), num_modules=2)
    plan.save(path)
    return path, plan


@pytest.mark.parametrize('change', NEEDS_MORE, ids=lambda change: change.__name__)
def test_a_run_that_needs_more_than_its_plan_is_refused(planned, change):
    path, plan = planned
    cfg = with_local(run_config(), plan=path)
    change(cfg)
    allowed = re.escape(gib(plan.allowed_bytes))
    text = f'for another {NEEDS_MORE[change]}: this run needs .*has {allowed}'
    with pytest.raises(ValueError, match=text):
        settle_cuts(cfg)


@pytest.mark.parametrize('change', [another_rate, no_reconstruction])
def test_a_run_that_needs_no_more_than_its_plan_is_fine(planned, change):
    path, plan = planned
    cfg = with_local(run_config(), plan=path)
    change(cfg)
    settle_cuts(cfg)
    assert build(cfg.model).local['splits'] == list(plan.splits)


def test_a_gpu_with_room_for_more_is_enough(planned, tmp_path):
    path, plan = planned
    roomy = dataclasses.replace(plan, gpu_memory_bytes=2**34, fits=True)
    roomy.save(tmp_path / 'roomy.json')
    cfg = with_local(run_config(), plan=str(tmp_path / 'roomy.json'))
    adamw(cfg)
    settle_cuts(cfg)


def test_nothing_is_counted_for_the_planned_run_or_a_plan_without_conditions(
    planned, tmp_path, monkeypatch
):
    def fail(*_, **__):
        raise AssertionError('counted')

    path, plan = planned
    monkeypatch.setattr(Setting, 'tracked_peak', fail)
    settle_cuts(with_local(run_config(), plan=path))
    # As an earlier version wrote it.
    content = json.loads(Path(path).read_text())
    content.pop('conditions')
    (tmp_path / 'old.json').write_text(json.dumps(content))
    cfg = with_local(run_config(), plan=str(tmp_path / 'old.json'))
    adamw(cfg)
    settle_cuts(cfg)


def test_a_run_that_cannot_be_counted_is_not_refused(planned, monkeypatch):
    def fail(*_, **__):
        raise SimulationError('an operator')

    monkeypatch.setattr(Setting, 'tracked_peak', fail)
    cfg = with_local(run_config(), plan=planned[0])
    adamw(cfg)
    with pytest.warns(UserWarning, match='another optimizer.*counted: an operator'):
        settle_cuts(cfg)


def test_what_is_missing_to_plan_is_said():
    cfg = with_local(run_config(), gpu_memory='11GiB')
    cfg.train_dataloader.pop('batch_size')
    with pytest.raises(ValueError, match='the batch size is not known'):
        settle_cuts(cfg)
    cfg = with_local(run_config(), gpu_memory='11GiB')
    cfg.model.data_preprocessor.pop('size')
    with pytest.raises(ValueError, match='the crop size is not known'):
        settle_cuts(cfg)


@pytest.mark.exhaustive
def test_a_stock_config_can_be_planned():
    model = tiny()
    del model['local']
    plan = make_plan(
        dataclasses.replace(SETTING, model={**model, 'type': 'EncoderDecoder'}),
        num_modules=2,
    )
    assert len(plan.splits) == 1


def test_a_report_says_what_matters(whole):
    memory = between(whole, 0.5)
    plan = make_plan(SETTING, gpu_memory=memory, reserve=0)
    text = plan_report(plan)
    for words in ('local_0', 'end-to-end + checkpointing', 'checked:', 'fits: of'):
        assert words in text
    text = plan_report(make_plan(SETTING, gpu_memory=10**6, reserve=0))
    assert 'DOES NOT FIT' in text
    assert 'smallest possible peak is' in text


def test_exact_training_is_planned_alone(whole):
    settings = {'recompute': 'never', 'reserve': 0, 'exact': True}
    memory = int(0.85 * whole.end_to_end_peak_bytes)
    plan = make_plan(SETTING, gpu_memory=memory, **settings)
    assert plan.fits
    assert plan.end_to_end_every == 1
    assert plan.tracked_peak_bytes <= memory
    assert [module.head_bytes for module in plan.modules[:-1]] == [0] * len(plan.splits)
    assert plan.flops_ratio == pytest.approx(1 + plan.flops_overhead)
    again = sum(module.extra_flops for module in plan.modules)
    assert again == pytest.approx(plan.flops_overhead)
    three = make_plan(SETTING, num_modules=3, exact=True)
    assert (len(three.splits), three.recompute) == (2, ())
    assert three.tracked_peak_bytes == pytest.approx(
        three.predicted_peak_bytes, rel=0.003
    )
    assert three.end_to_end_every == 1
    assert not make_plan(SETTING, gpu_memory=10**6, **settings).fits
    with pytest.raises(ValueError, match='num_modules=12 is out of range'):
        make_plan(SETTING, num_modules=12, exact=True)


def test_accuracy_comes_before_speed_and_speed_before_memory(whole, monkeypatch):
    settings = {
        'gpu_memory': int(0.85 * whole.end_to_end_peak_bytes),
        'recompute': 'never',
        'reserve': 0,
    }
    exact, fast, small = (
        make_plan(SETTING, prefer=prefer, **settings)
        for prefer in ('accuracy', 'speed', 'memory')
    )
    assert exact.end_to_end_every == 1
    assert fast.flops_ratio < exact.flops_ratio
    assert small.predicted_peak_bytes == small.smallest_peak_bytes
    monkeypatch.setattr(decide, 'MOST_EXACT_WORK', 0)
    local = make_plan(SETTING, prefer='accuracy', **settings)
    assert local.end_to_end_every is None
    assert len(local.splits) == 1


def test_the_plans_along_the_dial_are_side_by_side(whole):
    memory = int(0.85 * whole.end_to_end_peak_bytes)
    plans = along_the_dial(SETTING, memory, reserve=0, recompute='never')
    assert plans['exact end-to-end'].end_to_end_every == 1
    assert all(plan.fits for plan in plans.values())
    text = dial_report(plans, plans['exact end-to-end'])
    assert text.count('(chosen)') == 1
    assert 'that of end-to-end' in text
    assert 'not measured' in text


@pytest.mark.exhaustive
def test_smaller_heads_are_told_with_the_setting_that_gets_them(whole):
    wish = {'gpu_memory': int(0.85 * whole.end_to_end_peak_bytes), 'reserve': 0}
    local = {**SETTING.model['local'], 'head': {'preset': 'paper'}}
    paper = dataclasses.replace(SETTING, model={**SETTING.model, 'local': local})
    plan = make_plan(paper, **wish, exact=False)
    lean = with_lean_heads(paper, **wish)
    assert lean == make_plan(SETTING, **wish, exact=False, verify=False)
    assert lean.flops_ratio < plan.flops_ratio
    line = lean_heads_line(plan, lean)
    assert '--local head=lean' in line
    assert f'{lean.flops_ratio:.3f} times' in line
    assert with_lean_heads(SETTING, **wish) is None
    assert lean_heads_line(plan, None) == ''


@pytest.mark.parametrize('period', [None, 1])
def test_the_memory_of_a_config_means_exact_training_where_it_fits(
    whole, period, monkeypatch
):
    # The stem of this network costs too much to run again.
    monkeypatch.setitem(frontiers.CHOICES, 'auto', frontiers.CHOICES['never'])
    memory = int(0.85 * whole.end_to_end_peak_bytes) + make.RESERVE_BYTES
    cfg = with_local(run_config(), gpu_memory=f'{memory}B', end_to_end_every=period)
    settle_cuts(cfg)
    assert cfg.model.local.end_to_end_every == 1
    assert cfg.model.local.splits
    assert not build(cfg.model).local_heads


@pytest.mark.exhaustive
def test_every_nth_step_is_planned_with_its_local_heads(whole):
    model = {
        **SETTING.model,
        'local': {**SETTING.model['local'], 'end_to_end_every': 4},
    }
    setting = dataclasses.replace(SETTING, model=model)
    three = make_plan(setting, num_modules=3)
    assert (three.end_to_end_every, len(three.splits)) == (4, 2)
    assert three.tracked_peak_bytes == pytest.approx(
        three.predicted_peak_bytes, rel=0.01
    )
    memory = int(0.85 * whole.end_to_end_peak_bytes)
    plan = make_plan(setting, gpu_memory=memory, recompute='never', reserve=0)
    assert plan.fits
    assert plan.end_to_end_every == 4
    exact, local = (
        make_plan(setting, num_modules=3, exact=is_exact, recompute='never')
        for is_exact in (True, False)
    )
    assert local.flops_ratio < three.flops_ratio < exact.flops_ratio
    cfg = with_local(
        run_config(), gpu_memory=f'{memory + make.RESERVE_BYTES}B', end_to_end_every=4
    )
    settle_cuts(cfg)
    build(cfg.model)


def test_a_plan_says_whether_gradients_cross_the_walls(tmp_path):
    path = str(tmp_path / 'plan.json')
    plan = Plan(
        ('layer2.0',),
        (),
        0,
        batch_size=BATCH,
        crop_size=CROP,
        end_to_end_every=1,
    )
    plan.save(path)
    cfg = with_local(run_config(), plan=path)
    settle_cuts(cfg)
    model = build(cfg.model)
    assert model.is_end_to_end
    assert not model.local_heads
    # The runner writes this into the work dir.
    assert model.local['end_to_end_every'] == 1
    cfg = with_local(run_config(), plan=path, end_to_end_every=4)
    with pytest.raises(ValueError, match='=4, but the plan .* is for 1'):
        settle_cuts(cfg)


def test_a_plan_without_walls_suits_every_period(tmp_path):
    path = str(tmp_path / 'plan.json')
    Plan((), (), 0, batch_size=BATCH, crop_size=CROP).save(path)
    for period in (None, 1, 4):
        cfg = with_local(run_config(), plan=path, end_to_end_every=period)
        settle_cuts(cfg)
        assert not build(cfg.model).local_heads


@pytest.mark.exhaustive
def test_the_largest_batch_that_trains_exactly(whole):
    memory = 2 * whole.end_to_end_peak_bytes
    settings = {'reserve': 0, 'recompute': 'never'}
    exact = largest_batch(SETTING, memory, prefer='accuracy', **settings)
    assert exact.end_to_end_every == 1
    assert exact.tracked_peak_bytes <= memory
    most = largest_batch(SETTING, memory, **settings)
    assert most.batch_size >= exact.batch_size > BATCH


def test_cards_are_answered_for():
    fits = what_fits(SETTING, reserve=2**30)
    assert [fit.card_gib for fit in fits] == list(CARDS_GIB)
    # A tiny network fits everywhere, end-to-end.
    assert all(fit.end_to_end and fit.local.splits == () for fit in fits)
    assert 'what would fit (1.00 GiB' in fits_report(fits, 2**30)
    nothing = what_fits(SETTING, reserve=100 * 2**30)
    assert not any(fit.local or fit.exact for fit in nothing)
    assert 'none fits' in fits_report(nothing, 2**30)


@pytest.mark.exhaustive
def test_the_largest_batch_fits_and_one_more_does_not(whole):
    settings = {'num_modules': 2, 'recompute': 'never', 'reserve': 0}
    memory = 2 * whole.end_to_end_peak_bytes
    plan = largest_batch(SETTING, memory, **settings)
    assert plan.batch_size > BATCH
    assert plan.tracked_peak_bytes <= memory
    more = dataclasses.replace(SETTING, batch_size=plan.batch_size + 1)
    assert make_plan(more, gpu_memory=memory, **settings).fits is False
    assert largest_batch(SETTING, 10**5, **settings) is None


@pytest.mark.exhaustive
def test_the_largest_crop_fits_and_keeps_its_shape(whole):
    memory = 2 * whole.end_to_end_peak_bytes
    plan = largest_crop(SETTING, memory, recompute='never', reserve=0)
    height, width = plan.crop_size
    assert height > CROP[0]
    assert (height % 32, width % 32) == (0, 0)
    assert width / height == pytest.approx(CROP[1] / CROP[0], rel=0.15)
    assert plan.tracked_peak_bytes <= memory
