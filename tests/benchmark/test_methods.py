import pytest

from infopro_seg.benchmark.method import PREDICTED as KINDS
from infopro_seg.benchmark.methods import from_plan, methods
from infopro_seg.models import InfoProEncoderDecoder
from infopro_seg.planner.make import Setting, make_plan
from infopro_seg.planner.search.totals import predicted_peak
from tests.backbones import BACKBONES
from tests.helpers import build, deeplabv3, localized
from tests.planner.networks import tiny

BATCH, CROP = 2, (256, 384)


@pytest.fixture(scope='module')
def compared():
    setting = Setting(tiny(auxiliary=1, lean_loss=True), BATCH, CROP)
    return {m.name: m for m in methods(setting, KINDS, [1, 3])}


def test_every_kind_and_number_of_modules_is_a_method(compared):
    assert list(compared) == [
        'end_to_end',
        'checkpointing',
        'local K=1',
        'local K=3',
        'local+recompute K=1',
        'local+recompute K=3',
    ]


def test_end_to_end_is_the_stock_model(compared):
    method = compared['end_to_end']
    assert type(build(method.model)).__name__ == 'EncoderDecoder'
    assert 'local' not in method.model


def test_checkpointing_is_the_stock_setting(compared):
    model = compared['checkpointing'].model
    assert model['type'] == 'mmseg.EncoderDecoder'
    assert model['backbone']['with_cp'] is True


@pytest.mark.exhaustive
def test_an_optimizer_that_goes_one_by_one_is_not_counted():
    setting = Setting(tiny(), BATCH, CROP)
    (at_once,) = methods(setting, ['local'], [3])
    (one_by_one,) = methods(setting, ['local'], [3], updates_at_once=False)
    assert at_once.chain.step_factor == 1
    assert one_by_one.chain.step_factor == 0
    assert one_by_one.predicted_peak_bytes <= at_once.predicted_peak_bytes


@pytest.mark.exhaustive
def test_checkpointing_without_the_stock_setting_is_recompute():
    model = localized(
        deeplabv3(BACKBONES['erfnet'], widths=(4,), auxiliary=0), splits=[]
    )
    (method,) = methods(Setting(model, BATCH, CROP), ['checkpointing'], [])
    assert method.model['local']['recompute'] == 'all'
    assert 'no with_cp' in method.how


def test_local_methods_have_the_cuts_of_the_planner(compared):
    for name in ('local K=3', 'local+recompute K=3'):
        method = compared[name]
        model = build(method.model)
        assert isinstance(model, InfoProEncoderDecoder)
        assert len(model.local_modules) == 3
        assert method.predicted_peak_bytes == predicted_peak(
            method.chain, method.partition
        )
    plain, less = compared['local K=1'], compared['local+recompute K=1']
    assert plain.model['local']['recompute'] == []
    assert less.model['local']['recompute']
    assert less.predicted_peak_bytes < plain.predicted_peak_bytes


@pytest.mark.exhaustive
def test_local_methods_can_do_without_auxiliary_heads():
    setting = Setting(tiny(auxiliary=1), BATCH, CROP)
    whole, local = methods(
        setting, ['end_to_end', 'local'], [2], keeps_auxiliary_heads=False
    )
    assert build(whole.model).with_auxiliary_head
    assert not build(local.model).with_auxiliary_head
    (kept,) = methods(setting, ['local'], [2])
    assert local.flops < kept.flops


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match=r"'magic' is unknown; allowed: end_to_end"):
        methods(Setting(tiny(), BATCH, CROP), ['magic'], [2])


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    'cut', [{'splits': ['layer2.1', 'layer3.1']}, {'num_modules': 3}]
)
def test_exact_training_is_a_method_where_the_config_asks_for_it(cut):
    model = localized(tiny(), **cut, recompute=['decode_head'], end_to_end_every=1)
    setting = Setting(model, BATCH, CROP)
    found = {m.kind: m for m in methods(setting, KINDS, [3])}
    exact, stock = found['exact'], found['end_to_end']
    assert exact.num_modules == 3
    assert exact.model['local']['end_to_end_every'] == 1
    assert exact.predicted_peak_bytes == setting.tracked_peak_of(exact.model)
    assert exact.predicted_peak_bytes < stock.predicted_peak_bytes
    # The other methods are those of the config without it.
    assert found['local'].model['local'].get('end_to_end_every') is None
    assert exact.flops > stock.flops
    assert 'exact' not in {
        m.kind for m in methods(Setting(tiny(), BATCH, CROP), KINDS, [])
    }


def test_a_plan_is_a_method_as_it_was_checked():
    setting = Setting(tiny(), BATCH, CROP)
    plan = make_plan(setting, num_modules=3, recompute='least')
    method = from_plan(setting, plan)
    assert method.model['local']['splits'] == list(plan.splits)
    assert method.num_modules == 3
    assert method.predicted_peak_bytes == plan.tracked_peak_bytes
