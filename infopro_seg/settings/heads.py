"""The ``head`` setting of local modules: presets, and changes to them."""

import copy
from collections.abc import Mapping
from typing import Any

from ..scopes import in_mmseg

#: The segmentation loss of the presets. For decode heads with sigmoids, see
#: `infopro_seg.models.build.build_local_heads`.
CROSS_ENTROPY = {
    'type': in_mmseg('CrossEntropyLoss'),
    'use_sigmoid': False,
    'loss_weight': 1.0,
    'loss_name': 'loss_seg',
}
PAPER, LEAN = 'paper', 'lean'
#: ``paper`` rebuilds the heads of the reference (Wang et al., ICLR 2021, released
#: segmentation code); ``lean`` is ours, for many cuts.
PRESETS: dict[str, dict[str, dict]] = {
    PAPER: {
        'reconstruction': {'type': 'InterpolatingReconstructionHead'},
        'segmentation': {
            'type': in_mmseg('FCNHead'),
            'channels': 512,
            'num_convs': 1,
            'concat_input': False,
            'dropout_ratio': 0.1,
            'loss_decode': CROSS_ENTROPY,
        },
    },
    LEAN: {
        'reconstruction': {'type': 'SubpixelReconstructionHead'},
        'segmentation': {
            'type': 'LocalSegmentationHead',
            'dropout_ratio': 0.0,
            'loss_decode': CROSS_ENTROPY,
        },
    },
}
#: The halves of a local head.
PARTS = ('reconstruction', 'segmentation')
LOOK_AHEAD = 'look_ahead'


def complete_head(head: Mapping | str | None) -> dict[str, dict | None]:
    """Complete a user's head config from its preset.

    Args:
        head: ``dict(preset='lean', reconstruction=..., segmentation=...)``, the name
            of a preset, or None for ``lean``. A half with a ``type`` replaces that of
            the preset. Without a ``type`` it changes single settings of the preset.
            None switches the half off. For ``look_ahead`` see `look_ahead_of`.

    Returns:
        The configs of both halves.

    Raises:
        TypeError: if ``head`` is neither a dict nor a name, or a half is not a dict.
        ValueError: if the preset or a key is unknown.
    """
    if head is None or isinstance(head, str):
        head = {'preset': head or LEAN}
    if not isinstance(head, Mapping):
        raise TypeError(f'local head {head!r} must be a dict or the name of a preset.')
    preset = head.get('preset', LEAN)
    if preset not in PRESETS:
        raise ValueError(
            f'preset={preset!r} of the local head is unknown; choose one of '
            f'{sorted(PRESETS)}.'
        )
    allowed = ('preset', *PARTS, LOOK_AHEAD)
    unknown = set(head) - set(allowed)
    if unknown:
        raise ValueError(
            f'local head has unknown settings {sorted(unknown)}; allowed: '
            f'{", ".join(allowed)}.'
        )
    return {
        part: _override(PRESETS[preset][part], part, head.get(part, {}))
        for part in PARTS
    }


def look_ahead_of(head: Mapping | str | None) -> int:
    """How many later units the segmentation half looks through; 0 for none.

    Args:
        head: See `complete_head`.

    Raises:
        ValueError: if it is not an integer from 0.
    """
    number = head.get(LOOK_AHEAD, 0) if isinstance(head, Mapping) else 0
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise ValueError(
            f'local.head.look_ahead={number!r} must be a number of units from 0.'
        )
    return number


def _override(preset: dict, part: str, user: Any) -> dict | None:
    if user is None:
        return None
    if not isinstance(user, Mapping):
        raise TypeError(
            f'local.head.{part}={user!r} must be a dict of settings, or None to '
            'switch it off.'
        )
    if 'type' in user:
        return copy.deepcopy(dict(user))
    return {**copy.deepcopy(preset), **copy.deepcopy(dict(user))}
