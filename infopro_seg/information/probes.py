"""Probes: local heads trained on the maps of a frozen network."""

import itertools
import zlib
from collections.abc import Iterable, Mapping, Sequence

import torch
from mmengine.model import revert_sync_batchnorm

from ..compat import NormBase
from ..engine.quiet import quiet_log
from ..engine.random_state import random_numbers_from
from ..models import InfoProEncoderDecoder, LocalHead
from ..models.build import build_local_heads
from ..models.heads.reconstruction import valid_pixels
from ..models.losses.chunked import use_lean_loss
from ..models.probe import image_sizes, probe_backbone
from ..models.readers import stages_of
from ..models.segmentor import head_losses
from ..scopes import in_mmseg
from ..settings import LocalSettings
from ..units import Unit, units_of
from .constants import Constants
from .network import feature_maps, states_after

#: Of Adam, falling linearly to zero. Ours, not tuned.
LEARNING_RATE = 2e-3
# Channels of lean probes, whatever the width and stride of a map: the lean heads of
# training are narrower on early maps, and would make these look poorer. Ours.
_LEAN_CHANNELS = 64


def build_probes(
    network: InfoProEncoderDecoder,
    names: Sequence[str],
    *,
    preset: str = 'lean',
    seed: int = 0,
) -> dict[str, LocalHead]:
    """Build a probe for the output of each of these units.

    Initial weights follow from the seed and the name of the unit, so they are the same
    for all checkpoints of a network.

    Args:
        network: The network to probe.
        names: Of units.
        preset: Of `complete_head`.
        seed: 0 or more.

    Returns:
        Local heads by name of the unit, in training mode, on the network's device.
    """
    units = units_of(network.backbone)
    sizes = image_sizes(network)
    shapes = probe_backbone(network.backbone, units, network.image_channels, sizes)
    boundaries = dict(zip((u.name for u in units), shapes.boundaries, strict=True))
    stages = stages_of(network.decode_head)
    settings = LocalSettings.parse(
        {
            'splits': list(names),
            'head': _head_config(preset, max(2, stages[-1].num_classes)),
            'weights': {'reconstruction': 1.0, 'segmentation': 1.0},
        }
    )
    device = next(network.parameters()).device
    probes = {}
    for name in names:
        with quiet_log(), random_numbers_from([seed, zlib.crc32(name.encode())]):
            (head,) = build_local_heads(
                settings, [boundaries[name]], stages, network.image_channels
            )
            head = revert_sync_batchnorm(head)
            head.init_weights()
        use_lean_loss(head.segmentation)
        probes[name] = head.to(device).train()
    return probes


def train_probes(
    network: InfoProEncoderDecoder,
    probes: Mapping[str, LocalHead],
    batches: Iterable[Mapping],
    num_iterations: int,
) -> Constants:
    """Train probes, then fix the statistics of their norm layers; see `train_heads`.

    Where a channel hardly varies, what a norm layer remembers of earlier weights of the
    probe would be far off.

    Args:
        network: In evaluation mode.
        probes: By name of the unit whose output they read; left in evaluation mode.
        batches: `num_batches` of them.
        num_iterations: At least 1.
    """
    batches = iter(batches)
    training = itertools.islice(batches, num_iterations)
    constants = train_heads(network, probes, training, num_iterations)
    norms = [
        module
        for probe in probes.values()
        for module in probe.modules()
        if isinstance(module, NormBase) and module.track_running_stats
    ]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over batches
    with torch.no_grad():
        for batch in batches:
            size = (batch['inputs'].shape[-2], batch['inputs'].shape[-1])
            for name, feature_map in feature_maps(network, batch['inputs'], probes):
                probes[name].reconstruction(feature_map, size)
                probes[name].segmentation((feature_map,))
    for probe in probes.values():
        probe.eval()
    return constants


def num_batches(num_iterations: int) -> int:
    """How many batches `train_probes` needs; the last ones are for statistics."""
    return num_iterations + max(1, num_iterations // 10)


def train_heads(
    network: InfoProEncoderDecoder,
    heads: Mapping[str, LocalHead],
    batches: Iterable[Mapping],
    num_iterations: int,
    units_ahead: Mapping[str, Sequence[Unit]] | None = None,
) -> Constants:
    """Train heads on the maps of a network that is not trained itself.

    Each batch runs through the network once, for all heads.

    Args:
        network: Its mode decides about statistics of norm layers and dropout.
        heads: By name of the unit whose output they read; trained in place.
        batches: ``num_iterations`` of them, with ``inputs`` and ``data_samples``.
        num_iterations: At least 1.
        units_ahead: For heads that look ahead, the later units that they look through.

    Returns:
        The best constant predictor of the same batches.

    Raises:
        ValueError: if a loss is not finite.
    """
    parameters = [p for head in heads.values() for p in head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(
        optimizer, start_factor=1.0, end_factor=0.0, total_iters=num_iterations
    )
    constants = Constants(network.decode_head, network.image_channels)
    for batch in batches:
        inputs, samples = batch['inputs'], batch['data_samples']
        image = network.reconstruction_target(inputs, samples)
        valid = valid_pixels(samples, tuple(inputs.shape[-2:]), inputs.device)
        constants.see(image, valid, [sample.gt_sem_seg.data for sample in samples])
        optimizer.zero_grad()
        for name, state in states_after(network, inputs, heads):
            ahead = (units_ahead or {}).get(name, ())
            losses = head_losses(network, heads[name], state, ahead, image, samples)
            total, _ = network.parse_losses(losses)
            if not torch.isfinite(total):
                raise ValueError(
                    f'the loss of the head that reads {name} is {total.item()}: the '
                    'checkpoint may be of a run that diverged.'
                )
            total.backward()
        optimizer.step()
        schedule.step()
    return constants


def _head_config(preset: str, num_classes: int) -> dict:
    """A head that gives every pixel probabilities of classes that sum to one.

    What the loss of the network's own head is does not matter.
    """
    loss = {
        'type': in_mmseg('CrossEntropyLoss'),
        'use_sigmoid': False,
        'avg_non_ignore': True,
        'loss_name': 'loss_seg',
    }
    segmentation = {
        'num_classes': num_classes,
        'out_channels': num_classes,
        'loss_decode': loss,
    }
    if preset != 'lean':
        return {'preset': preset, 'segmentation': segmentation}
    return {
        'preset': preset,
        'reconstruction': {'channels': _LEAN_CHANNELS},
        # All labels: those are what the probe is scored on.
        'segmentation': {**segmentation, 'channels': _LEAN_CHANNELS, 'loss_stride': 1},
    }
