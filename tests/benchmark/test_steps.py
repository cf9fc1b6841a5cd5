import pytest
import torch

from infopro_seg.benchmark import steps
from infopro_seg.benchmark.method import PREDICTED as KINDS
from infopro_seg.benchmark.methods import methods
from infopro_seg.benchmark.steps import Contender, measure, random_batch
from infopro_seg.benchmark.summary import summarised
from infopro_seg.planner.make import Setting
from infopro_seg.report.benchmark_text import methods_report
from tests.planner.networks import tiny

MODEL = tiny(auxiliary=1)
# Larger than the crop: images must not be padded to it.
MODEL['data_preprocessor'] = {**MODEL['data_preprocessor'], 'size': (128, 128)}
SETTING = Setting(MODEL, 2, (64, 96))


@pytest.fixture(scope='module')
def compared():
    return methods(SETTING, KINDS, [3])


@pytest.fixture(scope='module')
def measured(compared):
    torch.set_num_threads(1)
    return measure(compared, device='cpu', steps=2, warmup=2, seed=0)


def test_every_method_takes_all_steps(compared, measured):
    assert [len(m.seconds) for m in measured] == [2] * len(compared)
    assert all(s > 0 for m in measured for s in m.seconds)


def test_measured_memory_is_near_the_prediction(compared, measured):
    # 5 %: the stock with_cp keeps the stem, which the prediction recomputes, and the
    # preprocessor runs inside the step.
    for method, numbers in zip(compared, measured, strict=True):
        assert numbers.peak_bytes == pytest.approx(
            method.predicted_peak_bytes, rel=0.05
        ), method.name


def test_methods_take_turns_and_the_order_rotates(compared, monkeypatch):
    order = []

    class Recorded(Contender):
        def __init__(self, method, device, seed):
            self.name = method.name

        def timed_step(self):
            order.append(self.name)
            return 1.0

        def peak_bytes(self):
            order.append('peak of ' + self.name)
            return 1

    monkeypatch.setattr(steps, 'Contender', Recorded)
    measure(compared[:2], device='cpu', steps=2, warmup=2, seed=0)
    a, b = (m.name for m in compared[:2])
    assert order == [a, b, f'peak of {b}', f'peak of {a}', a, b, b, a]


def test_what_runs_out_of_memory_has_no_numbers(compared, monkeypatch):
    class Failing(Contender):
        def __init__(self, method, device, seed):
            self.fails = method is compared[0]

        def timed_step(self):
            if self.fails:
                raise torch.OutOfMemoryError
            return 1.0

        def peak_bytes(self):
            return 7

        def drop(self):
            pass

    monkeypatch.setattr(steps, 'Contender', Failing)
    failed, other = measure(compared[:2], device='cpu', steps=2, warmup=2, seed=0)
    assert failed == ((), None)
    assert other == ((1.0, 1.0), 7)
    entries = summarised(compared[:2], [failed, other])
    assert entries[0]['out_of_memory'] is True
    assert 'out of memory' in methods_report(entries)


def test_a_batch_has_ignored_pixels_and_is_repeatable():
    batch = random_batch(SETTING, num_classes=19, ignore_index=255, seed=3)
    again = random_batch(SETTING, num_classes=19, ignore_index=255, seed=3)
    for image, other in zip(batch['inputs'], again['inputs'], strict=True):
        assert torch.equal(image, other)
        assert image.shape == (3, 64, 96)
        assert image.dtype == torch.uint8
    labels = torch.stack([s.gt_sem_seg.data for s in batch['data_samples']])
    assert labels.shape == (2, 1, 64, 96)
    values = set(random_labels_of(300).unique().tolist())
    assert 255 in values
    assert max(values - {255}) < 19


def random_labels_of(num_images):
    setting = Setting(SETTING.model, num_images, (32, 32))
    batch = random_batch(setting, num_classes=19, ignore_index=255, seed=0)
    return torch.stack([s.gt_sem_seg.data for s in batch['data_samples']])
