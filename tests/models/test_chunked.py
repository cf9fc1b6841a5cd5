import copy
import pickle
import warnings
import weakref

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from infopro_seg.models.losses import chunked
from infopro_seg.models.losses.chunked import use_lean_loss
from tests.helpers import build, deeplabv3, gradients, localized, losses_of

FCN = {
    'type': 'FCNHead',
    'in_channels': 8,
    'channels': 8,
    'num_convs': 1,
    'concat_input': False,
    'num_classes': 5,
    'norm_cfg': {'type': 'BN'},
    'align_corners': False,
}


def head_pair(loss=None, **settings):
    """A stock head and its lean twin."""
    loss = {'type': 'CrossEntropyLoss', 'loss_weight': 0.4, **(loss or {})}
    torch.manual_seed(0)
    stock = MODELS.build({**FCN, 'loss_decode': loss, **settings})
    lean = copy.deepcopy(stock)
    assert use_lean_loss(lean) is None
    return stock, lean


def samples_of(size, num=3, ignored=255, ignore_all=False):
    generator = torch.Generator().manual_seed(3)
    samples = []
    for _ in range(num):
        label = torch.randint(0, 5, (1, *size), generator=generator)
        label[torch.rand(1, *size, generator=generator) < 0.2] = ignored
        if ignore_all:
            label[:] = ignored
        sample = SegDataSample()
        sample.gt_sem_seg = PixelData(data=label)
        samples.append(sample)
    return samples


def run(head, logits, samples):
    logits = logits.clone().requires_grad_()
    losses = head.loss_by_feat(logits, samples)
    losses['loss_ce'].backward()
    return {name: value.detach() for name, value in losses.items()}, logits.grad


def assert_same_numbers(stock, lean, logits, samples):
    (losses, gradient), (lean_losses, lean_gradient) = (
        run(head, logits, samples) for head in (stock, lean)
    )
    assert list(lean_losses) == list(losses)
    # Sums of the same float32 numbers in another order, and the rows mixed by another
    # association of the same formula.
    for name, value in losses.items():
        torch.testing.assert_close(lean_losses[name], value, rtol=2e-6, atol=1e-7)
    scale = gradient.abs().max()
    torch.testing.assert_close(
        lean_gradient, gradient, rtol=0, atol=float(2e-6 * scale + 1e-12)
    )


LOSSES = [
    {},
    {'avg_non_ignore': True},
    {'class_weight': [0.5, 1.0, 2.0, 0.1, 3.0]},
]


@pytest.mark.parametrize('chunk_bytes', [1, 5 * 45 * 4 * 7, 2**24])
@pytest.mark.parametrize('loss', LOSSES, ids=str)
@pytest.mark.parametrize('align_corners', [False, True])
def test_numbers_are_those_of_the_stock_loss(
    monkeypatch, chunk_bytes, loss, align_corners
):
    # One row a chunk, seven rows with a remainder, everything at once.
    monkeypatch.setattr(chunked, 'CHUNK_BYTES', chunk_bytes)
    stock, lean = head_pair(loss, align_corners=align_corners)
    logits = 3 * torch.randn(3, 5, 5, 6)
    assert_same_numbers(stock, lean, logits, samples_of((37, 45)))


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('size', [(40, 48), (5, 6), (3, 4), (1, 1), (1, 48)])
def test_every_size_of_labels(size, align_corners):
    # Upsampling by 8, none, downsampling, a single pixel, a single row.
    stock, lean = head_pair(align_corners=align_corners)
    assert_same_numbers(stock, lean, torch.randn(3, 5, 5, 6), samples_of(size))


def test_labels_without_a_valid_pixel_give_zero_and_no_nan():
    samples = samples_of((16, 16), ignore_all=True)
    for loss in LOSSES:
        stock, lean = head_pair(loss)
        assert_same_numbers(stock, lean, torch.randn(3, 5, 4, 4), samples)
        losses, gradient = run(lean, torch.randn(3, 5, 4, 4), samples)
        assert losses['loss_ce'] == 0
        assert not gradient.any()


def test_another_ignored_label():
    stock, lean = head_pair(ignore_index=4)
    samples = samples_of((16, 16), ignored=4)
    assert_same_numbers(stock, lean, torch.randn(3, 5, 4, 4), samples)


def test_half_precision_logits_are_compared_in_float32():
    _, lean = head_pair()
    samples = samples_of((16, 16))
    logits = torch.randn(3, 5, 4, 4).bfloat16()
    exact, exact_gradient = run(lean, logits.float(), samples)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses, gradient = run(lean, logits, samples)
    assert losses['loss_ce'].equal(exact['loss_ce'])
    assert gradient.equal(exact_gradient.bfloat16())


def test_without_gradients_nothing_is_differentiated():
    stock, lean = head_pair()
    samples = samples_of((16, 16))
    logits = torch.randn(3, 5, 4, 4)
    with torch.no_grad():
        expected = stock.loss_by_feat(logits, samples)
        losses = lean.loss_by_feat(logits, samples)
    torch.testing.assert_close(losses, expected)
    assert not losses['loss_ce'].requires_grad


class Saved:
    """Holds what autograd saves, so that its lifetime can be watched."""

    def __init__(self, tensor):
        self.tensor = tensor


def kept_bytes(head, logits, samples):
    """Bytes saved for backward that are still alive once the losses are known."""
    saved = []

    def pack(tensor):
        holder = Saved(tensor)
        saved.append(weakref.ref(holder))
        return holder

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda holder: holder.tensor):
        losses = head.loss_by_feat(logits, samples)
    kept = [ref().tensor for ref in saved if ref() is not None]
    assert losses['loss_ce'].requires_grad
    return sum(tensor.numel() * tensor.element_size() for tensor in kept)


def test_only_the_gradient_of_the_small_logits_is_kept():
    stock, lean = head_pair()
    samples = samples_of((64, 64))
    logits = torch.randn(3, 5, 8, 8, requires_grad=True)
    small, full = 3 * 5 * 8 * 8 * 4, 3 * 5 * 64 * 64 * 4
    assert kept_bytes(stock, logits, samples) > full
    # And scalars, such as the denominator of the mean.
    assert small <= kept_bytes(lean, logits, samples) < small + 64


def test_a_chunk_is_all_that_is_upsampled_at_once(monkeypatch):
    monkeypatch.setattr(chunked, 'CHUNK_BYTES', 5 * 64 * 4 * 8)
    largest = []
    stock_loss = torch.nn.functional.cross_entropy

    def noting(logits, *args, **kwargs):
        largest.append(logits.numel() * 4)
        return stock_loss(logits, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, 'cross_entropy', noting)
    _, lean = head_pair()
    lean.loss_by_feat(torch.randn(3, 5, 8, 8, requires_grad=True), samples_of((64, 64)))
    assert largest == [5 * 64 * 4 * 8] * 24


@pytest.mark.parametrize(
    'copied', [copy.deepcopy, lambda head: pickle.loads(pickle.dumps(head))]
)
def test_copies_use_their_own_settings(copied):
    _, lean = head_pair()
    twin = copied(lean)
    assert list(twin.state_dict()) == list(lean.state_dict())
    twin.loss_decode.loss_weight = 0.8
    samples, logits = samples_of((16, 16)), torch.randn(3, 5, 4, 4)
    ours, theirs = (run(head, logits, samples)[0]['loss_ce'] for head in (lean, twin))
    assert theirs == 2 * ours


@pytest.mark.parametrize(
    ('settings', 'reason'),
    [
        ({'loss_decode': {'type': 'DiceLoss'}}, 'its loss_decode is DiceLoss'),
        (
            {'loss_decode': [{'type': 'CrossEntropyLoss'}] * 2},
            'its loss_decode is ModuleList',
        ),
        ({'loss_decode': {'type': 'CrossEntropyLoss', 'use_sigmoid': True}}, 'sigmoid'),
        ({'loss_decode': {'type': 'CrossEntropyLoss', 'reduction': 'sum'}}, "'sum'"),
        ({'sampler': {'type': 'OHEMPixelSampler', 'min_kept': 9}}, 'has a sampler'),
        ({'type': 'STDCHead', 'boundary_threshold': 0.1}, 'loss_by_feat of its own'),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_other_losses_stay_as_they_are_and_say_why(settings, reason):
    head = MODELS.build({**FCN, **settings})
    assert reason in use_lean_loss(head)
    assert 'loss_by_feat' not in vars(head)


def test_a_head_that_is_none_of_mmsegs_stays_as_it_is_and_says_why():
    assert 'Linear is not a BaseDecodeHead' in use_lean_loss(torch.nn.Linear(1, 1))


def test_lean_loss_true_warns_of_the_heads_that_it_does_not_fit():
    config = deeplabv3()
    config['decode_head']['loss_decode'] = {'type': 'DiceLoss'}
    for local in ({'num_modules': 2}, {'num_modules': 1}):
        with pytest.warns(UserWarning, match='no effect on decode_head: .*DiceLoss'):
            build(localized(config, **local, lean_loss=True))


@pytest.mark.parametrize('preset', ['paper', 'lean'])
def test_one_setting_reaches_every_head(preset):
    local = {'num_modules': 3, 'head': {'preset': preset}}
    stock = build(localized(deeplabv3(), **local, lean_loss=False))
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message='lean_loss')
        lean = build(localized(deeplabv3(), **local, lean_loss=True))
    assert list(lean.state_dict()) == list(stock.state_dict())
    heads = [
        lean.decode_head,
        lean.auxiliary_head,
        *(head.segmentation for head in lean.local_heads),
    ]
    assert all('loss_by_feat' in vars(head) for head in heads)
    losses, lean_losses = losses_of(stock), losses_of(lean)
    assert list(losses) == list(lean_losses)
    for name, value in losses.items():
        torch.testing.assert_close(lean_losses[name], value, rtol=1e-6, atol=1e-7)
    for model, entries in ((stock, losses), (lean, lean_losses)):
        model.parse_losses(entries)[0].backward()
    theirs = gradients(lean)
    for name, gradient in gradients(stock).items():
        # Rounding grows on its way back through the batch norms.
        torch.testing.assert_close(
            theirs[name],
            gradient,
            rtol=0,
            atol=float(1e-4 * gradient.abs().max() + 1e-8),
            msg=name,
        )


def is_lean(model):
    return {
        name for name, module in model.named_modules() if 'loss_by_feat' in vars(module)
    }


def test_losses_are_lean_behind_walls_and_where_that_is_asked_for():
    heads = {'decode_head', 'auxiliary_head', 'local_heads.0.segmentation'}
    for lean_loss in (None, True):
        lean = build(localized(deeplabv3(), num_modules=2, lean_loss=lean_loss))
        assert is_lean(lean) == heads
    assert not is_lean(build(localized(deeplabv3(), num_modules=1)))
    assert not is_lean(build(localized(deeplabv3(), num_modules=2, lean_loss=False)))
    one = build(localized(deeplabv3(), num_modules=1, lean_loss=True))
    assert is_lean(one) == {'decode_head', 'auxiliary_head'}


OTHER_LOSSES = {
    'ohem': {'sampler': {'type': 'OHEMPixelSampler', 'min_kept': 9}},
    'two losses': {
        'loss_decode': [
            {'type': 'CrossEntropyLoss', 'loss_name': 'loss_ce'},
            {'type': 'DiceLoss', 'loss_name': 'loss_dice'},
        ]
    },
    'tversky': {'loss_decode': {'type': 'TverskyLoss'}},
    'lovasz': {'loss_decode': {'type': 'LovaszLoss', 'reduction': 'none'}},
    'sigmoid': {'loss_decode': {'type': 'CrossEntropyLoss', 'use_sigmoid': True}},
}


@pytest.mark.parametrize('name', OTHER_LOSSES)
def test_by_default_other_losses_are_the_stock_ones_without_a_word(name):
    config = deeplabv3(auxiliary=None)
    config['decode_head'].update(OTHER_LOSSES[name], dropout_ratio=0.0)
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message='lean_loss')
        ours = build(localized(config, splits=['layer2.1']))
    stock = build(config)
    ours.load_state_dict(stock.state_dict(), strict=False)
    theirs = losses_of(stock)
    found = losses_of(ours)
    for key, value in theirs.items():
        assert torch.equal(found[key], value), key


def test_double_precision_stays_double():
    head = MODELS.build(FCN).double()
    lean = copy.deepcopy(head)
    assert use_lean_loss(lean) is None
    logits = torch.randn(2, FCN['num_classes'], 8, 8, dtype=torch.float64)
    samples = samples_of((32, 32), num=2)
    expected = head.loss_by_feat(logits, samples)['loss_ce']
    found = lean.loss_by_feat(logits, samples)['loss_ce']
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=0)


def test_lean_loss_is_true_false_or_none():
    with pytest.raises(TypeError, match="lean_loss='yes' must be True, False or None"):
        build(localized(deeplabv3(), num_modules=2, lean_loss='yes'))
