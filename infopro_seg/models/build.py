"""From the ``local`` setting of a config to checked values and built local heads."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import ImgDataPreprocessor, ModuleList
from mmseg.registry import MODELS
from torch import nn

from ..planner.plan import Plan
from .local_head import LocalHead, complete_head
from .probe import Boundary
from .splits import check_splits, even_splits, linear_weights

_CUTS = ('splits', 'num_modules', 'plan')
_WIDTH_FREE_NORMS = ('BN', 'SyncBN', 'IN')
_PARTS = ('reconstruction', 'segmentation')
# lambda1 and lambda2 of the paper's 512x1024, batch 8 setting (Wang et al., ICLR 2021,
# released segmentation code).
_DEFAULT_WEIGHTS = {'reconstruction': (1.5, 1.5), 'segmentation': (1.0, 1.0)}


@dataclasses.dataclass(frozen=True)
class LocalConfig:
    """The ``local`` setting, checked as far as possible without a network.

    Args:
        cut: Which of ``splits`` and ``num_modules`` was given.
        value: Its value.
        head: Configs of both halves of a local head, see `complete_head`.
        weights: (first, last but one) of both losses, see `linear_weights`.
        recompute: See `resolve_recompute`.
        lean_loss: Whether all heads take their loss in chunks, see `use_lean_loss`.
    """

    cut: str
    value: Any
    head: dict[str, dict | None]
    weights: dict[str, Any]
    recompute: str | Sequence[str] | None = None
    lean_loss: bool = False

    @classmethod
    def parse(cls, local: Mapping) -> 'LocalConfig':
        """Check a ``local`` setting.

        Args:
            local: As in the config; entries that are None count as absent.

        Raises:
            TypeError: if it is not a dict, or if ``lean_loss`` is not a bool.
            FileNotFoundError: if the plan does not exist.
            ValueError: if a setting is unknown, if not exactly one way to cut is
                given, or if a weight is negative.
        """
        if not isinstance(local, Mapping):
            raise TypeError(
                f'local={local!r} must be a dict, such as local=dict(num_modules=4).'
            )
        allowed = (*_CUTS, 'head', 'weights', 'recompute', 'lean_loss')
        if local.get('gpu_memory') is not None:
            raise ValueError(
                f'local.gpu_memory={local["gpu_memory"]!r} is turned into splits by '
                'tools/train.py, which knows the batch. Elsewhere write a plan with '
                'tools/plan.py --gpu-memory and set local=dict(plan=...).'
            )
        local = {k: v for k, v in local.items() if k != 'gpu_memory'}
        _refuse_unknown('local', local, allowed)
        cuts = [key for key in _CUTS if local.get(key) is not None]
        if len(cuts) != 1:
            given = ' and '.join(cuts) or 'none'
            raise ValueError(
                f'local must say how to cut by exactly one of {", ".join(_CUTS)}; '
                f'given: {given}. An inherited one is removed by setting it to None.'
            )
        weights = {**_DEFAULT_WEIGHTS, **(local.get('weights') or {})}
        _refuse_unknown('local.weights', weights, _PARTS)
        for part in _PARTS:
            linear_weights(weights[part], 2)
        cut, value, recompute = cuts[0], local[cuts[0]], local.get('recompute')
        if cut == 'plan':
            plan = Plan.load(value)
            cut, value, recompute = 'splits', plan.splits, list(plan.recompute)
        lean_loss = local.get('lean_loss') or False
        if not isinstance(lean_loss, bool):
            raise TypeError(f'lean_loss={lean_loss!r} must be True or False.')
        return cls(
            cut,
            value,
            complete_head(local.get('head')),
            weights,
            recompute,
            lean_loss,
        )

    def resolve_splits(self, unit_names: Sequence[str]) -> tuple[str, ...]:
        """The names of the last units of all modules but the last.

        Args:
            unit_names: Names of all units of the backbone, in order.

        Raises:
            TypeError: if splits or num_modules is of the wrong kind.
            ValueError: see `check_splits` and `even_splits`.
        """
        if self.cut == 'num_modules':
            if not isinstance(self.value, int) or isinstance(self.value, bool):
                raise TypeError(f'num_modules={self.value!r} must be an integer.')
            return even_splits(unit_names, self.value)
        check_splits(unit_names, self.value)
        return tuple(self.value)


def build_local_heads(
    config: LocalConfig,
    boundaries: Sequence[Boundary],
    decode_heads: Sequence[nn.Module],
    image_channels: int,
) -> ModuleList:
    """Build the local heads of all modules but the last.

    What a head's config leaves open is filled in: channels and stride of its boundary;
    number of classes, ignore index, norm layers and alignment of the decode head, which
    in a cascade is the last one.

    Args:
        config: The ``local`` setting.
        boundaries: What leaves each of these modules.
        decode_heads: The network's own head, or the stages of its cascade.
        image_channels: Channels of the image to reconstruct.

    Returns:
        One `LocalHead` a boundary. A half whose weight is 0 is not built.
    """
    decode_head = decode_heads[-1]
    shared = {
        'num_classes': decode_head.num_classes,
        'out_channels': decode_head.num_classes,
        'ignore_index': decode_head.ignore_index,
        'norm_cfg': _norm_of(decode_heads),
        'align_corners': decode_head.align_corners,
        'in_index': 0,
    }
    weights = {
        part: linear_weights(config.weights[part], len(boundaries)) for part in _PARTS
    }
    heads = ModuleList()
    for i, boundary in enumerate(boundaries):
        fill = {'in_channels': boundary.channels, 'stride': boundary.stride}
        fills = {
            'reconstruction': {
                **fill,
                'out_channels': image_channels,
                'norm_cfg': shared['norm_cfg'],
            },
            'segmentation': {**fill, **shared},
        }
        halves = {
            part: _fill(config.head[part], fills[part])
            if weights[part][i] > 0
            else None
            for part in _PARTS
        }
        heads.append(
            LocalHead(
                **halves,
                reconstruction_weight=weights['reconstruction'][i],
                segmentation_weight=weights['segmentation'][i],
            )
        )
    return heads


def require_known_normalisation(data_preprocessor: nn.Module) -> None:
    """Check that the image in [0, 1] can be recovered from the network's input.

    Args:
        data_preprocessor: Of the segmentor.

    Raises:
        ValueError: if it does not say how it normalises.
    """
    if not isinstance(data_preprocessor, ImgDataPreprocessor):
        raise ValueError(
            'the reconstruction loss compares with the image in [0, 1], recovered '
            'with the mean and std of the data preprocessor, but data_preprocessor '
            f'is a {type(data_preprocessor).__name__}. Use '
            "data_preprocessor=dict(type='SegDataPreProcessor', mean=..., std=...)"
            ', or set local=dict(head=dict(reconstruction=None)).'
        )


def _norm_of(decode_heads: Sequence[nn.Module]) -> dict:
    """The last norm layers of the decode heads that fit maps of any width, else BN.

    Group norm does not, and some heads (K-Net, Segmenter, PointRend) have none.
    """
    for head in reversed(decode_heads):
        norm_cfg = getattr(head, 'norm_cfg', None) or {}
        if norm_cfg.get('type') in _WIDTH_FREE_NORMS:
            return norm_cfg
    return {'type': 'BN'}


def _fill(config: dict | None, values: dict[str, Any]) -> dict | None:
    """Add the values that the head's class takes and the config leaves open."""
    if config is None:
        return None
    cls = MODELS.get(config['type'])
    if cls is None:
        raise KeyError(
            f'{config["type"]} is not in the registry of models; name a registered '
            'head, and import its module with custom_imports.'
        )
    accepted = accepted_settings(cls)
    return {**{k: v for k, v in values.items() if k in accepted}, **config}


def accepted_settings(cls: type) -> set[str]:
    """Names of all arguments that a class or its bases take."""
    return {
        name
        for base in cls.__mro__
        if '__init__' in vars(base)
        for name in inspect.signature(base.__init__).parameters
    }


def _refuse_unknown(where: str, given: Mapping, allowed: Sequence[str]) -> None:
    unknown = sorted(set(given) - set(allowed))
    if unknown:
        raise ValueError(
            f'{where} has unknown settings {unknown}; allowed: {", ".join(allowed)}.'
        )
