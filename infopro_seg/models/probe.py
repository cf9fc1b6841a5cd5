"""What enters a backbone and crosses its unit boundaries, found by running a copy.

The copy has no weights, wherever the backbone runs without them.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..compat import ConvNd, tree_map_only
from ..units import State, Unit
from .hollow import hollow_copy, meta_copy

# A multiple of all strides, patch and window sizes in use, and large enough to leave
# more than one pixel at stride 32.
_PROBE_SIZE = (224, 224)
# Backbones with fixed positions (BEiT) run only on images of this attribute's size.
_SIZE_ATTRIBUTE = 'img_size'
# Up to this number all channel counts are tried if no convolution has the right one
# (two branches that divide the channels between them).
_MOST_CHANNELS = 32


@dataclasses.dataclass(frozen=True)
class Boundary:
    """What leaves a unit.

    Args:
        channels: Channels of the feature map that a local head would get.
        stride: Image pixels per map pixel in each direction, rounded to an integer.
        num_outputs: How many stage outputs of the backbone exist here.
    """

    channels: int
    stride: int
    num_outputs: int


@dataclasses.dataclass(frozen=True)
class Probe:
    """Shapes of a backbone.

    Args:
        boundaries: One per unit.
        outputs: The backbone's stage outputs, without storage (device meta).
        image_channels: Channels of the image that the backbone takes.
    """

    boundaries: tuple[Boundary, ...]
    outputs: tuple[Tensor, ...]
    image_channels: int = 3


def image_sizes(
    network: Any, *more: Any, usual: tuple[int, int] = _PROBE_SIZE
) -> tuple[tuple[int, int], ...]:
    """Sizes of images to try a network on, which may take only some.

    Args:
        network: A segmentor, or a backbone alone.
        more: Sizes that are known from elsewhere: a pair, one number or None.
        usual: Tried first, if the backbone names no size.

    Returns:
        Pairs of height and width without repetition: the backbone's own or the usual
        one, then ``more``, those of the data preprocessor and of the test crops.
    """
    backbone = getattr(network, 'backbone', network)
    preprocessor = getattr(network, 'data_preprocessor', None)
    sizes = [
        getattr(backbone, _SIZE_ATTRIBUTE, None) or usual,
        *more,
        getattr(preprocessor, 'size', None),
        (getattr(network, 'test_cfg', None) or {}).get('crop_size'),
    ]
    # A size from a JSON config is a list.
    pairs = [(s, s) if isinstance(s, int) else (s[0], s[1]) for s in sizes if s]
    return tuple(dict.fromkeys(pairs))


def input_channels(
    backbone: nn.Module,
    expected: int | None = None,
    sizes: Iterable[tuple[int, int]] = (),
) -> int:
    """How many channels the input images of a backbone have.

    Attributes do not tell (``in_channels`` of MobileNetV2 is that of its last stage),
    so the input widths of its convolutions are tried in order.

    Args:
        backbone: Any backbone, on any device; it is not changed.
        expected: Tried first, for backbones that take any number.
        sizes: (height, width) of images that it may take; tried if the backbone's own
            size, or else 224x224, fails.

    Raises:
        Exception: the backbone's own, if none of its modules takes an image.
    """
    trials = list(_trials(backbone, image_sizes(backbone, *sizes), expected))
    # If the image does not fit the size of the backbone's positions, every trial fails;
    # the one with the right number of channels then gets furthest.
    best = max(trials, key=lambda trial: (trial.error is None, trial.num_modules))
    if best.error is not None and best.num_modules == 0:
        raise trials[0].error or best.error
    return best.image.shape[1]


def probe_backbone(
    backbone: nn.Module,
    units: Sequence[Unit],
    in_channels: int | None = None,
    sizes: Iterable[tuple[int, int]] = (),
) -> Probe:
    """Measure what leaves each unit, without data or side effects.

    Args:
        backbone: Any supported backbone, on any device; it is not changed.
        units: Its units.
        in_channels: Channels of the input image. Default: see `input_channels`.
        sizes: (height, width) of images that it may take; tried if the backbone's own
            size, or else 224x224, fails.

    Raises:
        Exception: the backbone's own, if it does not take such images.
    """
    trials = list(_trials(backbone, image_sizes(backbone, *sizes), in_channels))
    if trials[-1].error is not None:
        raise trials[0].error or trials[-1].error
    copied, state = trials[-1].backbone, State(trials[-1].image)
    height = trials[-1].image.shape[2]
    boundaries = []
    with torch.no_grad():
        for unit in units:
            state = unit(copied, state)
            feature_map = state.feature_map()
            boundaries.append(
                Boundary(
                    channels=feature_map.shape[1],
                    stride=max(1, round(height / feature_map.shape[2])),
                    num_outputs=len(state.outputs),
                )
            )
    outputs = tree_map_only(Tensor, lambda out: out.to('meta'), state.outputs)
    return Probe(tuple(boundaries), outputs, trials[-1].image.shape[1])


class _Trial(NamedTuple):
    """A copy of a backbone that was run on an image.

    Args:
        backbone: In evaluation mode, where mmseg backbones return None.
        image: (1, C, H, W).
        num_modules: How many of its modules ran to the end.
        error: What stopped it; None if nothing did.
    """

    backbone: nn.Module
    image: Tensor
    num_modules: int
    error: Exception | None


def _trials(
    backbone: nn.Module, sizes: Sequence[tuple[int, int]], expected: int | None
) -> Iterator[_Trial]:
    """Run a backbone in all ways that may be right, up to the first that works.

    A backbone that cannot run without values (data-dependent branches) runs with them.
    """
    own = next((p.device for p in backbone.parameters()), torch.device('cpu'))
    meta = torch.device('meta')
    likely = _likely_channels(backbone, expected)
    ways = [(size, device, likely) for size in sizes for device in (meta, own)]
    ways += [(size, meta, list(range(1, _MOST_CHANNELS + 1))) for size in sizes]
    for size, device, numbers in ways:
        copied = meta_copy(backbone) if device.type == 'meta' else _clone(backbone)
        copied.eval()
        for channels in numbers:
            trial = _run(copied, torch.zeros(1, channels, *size, device=device))
            yield trial
            if trial.error is None:
                return


def _run(backbone: nn.Module, image: Tensor) -> _Trial:
    num_modules = 0

    def count(*_: Any) -> None:
        nonlocal num_modules
        num_modules += 1

    hooks = [module.register_forward_hook(count) for module in backbone.modules()]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            backbone(image)
    except Exception as error:  # backbones may refuse wrong images in any way
        return _Trial(backbone, image, num_modules, error)
    finally:
        for hook in hooks:
            hook.remove()
    return _Trial(backbone, image, num_modules, None)


def _clone(module: nn.Module) -> nn.Module:
    return hollow_copy(module, lambda tensor: tensor.clone())


def _likely_channels(backbone: nn.Module, expected: int | None) -> list[int]:
    widths = [m.in_channels for m in backbone.modules() if isinstance(m, ConvNd)]
    first = [expected] if expected else []
    return [c for c in dict.fromkeys((*first, *widths, 3, 1)) if c > 0]
