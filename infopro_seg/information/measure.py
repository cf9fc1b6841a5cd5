"""One trained network from its checkpoint to its numbers."""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import set_random_seed
from mmseg.registry import DATASETS

from ..checkpoints.files import LOCAL_PREFIX, read_checkpoint
from ..engine.check_weights_hook import TRAINING_ONLY
from ..engine.quiet import quiet_log
from ..models import InfoProEncoderDecoder
from ..settings.localize import localize
from ..units import units_of
from .boundaries import probed_boundaries
from .gradients import (
    compare_gradients,
    heads_by_unit,
    load_local_heads,
    training_mode,
)
from .network import load_network, training_batches, validation_batches
from .pictures import reconstructions
from .probes import build_probes, num_batches, train_heads, train_probes
from .results import Entry
from .scores import score_probes

_NUM_PICTURES = 3
Pictures = list[dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Options:
    """How networks are measured.

    Args:
        iterations: Training steps of probes, or of local heads that a checkpoint lacks.
        seed: Of initial weights, order of data and augmentations.
        head: Preset of the probes.
        boundaries: Units to probe; None for the default of `probed_boundaries`.
        num_batches: For gradients.
    """

    iterations: int = 300
    seed: int = 0
    head: str = 'lean'
    boundaries: Sequence[str] | None = None
    num_batches: int = 8


class TrainedNetwork:
    """A network with the weights of a checkpoint.

    Args:
        cfg: Its config, whose model is local.
        path: Its checkpoint.
        needs_auxiliary: Whether weights of auxiliary heads may not be missing.
        trust_pickle: See `read_checkpoint`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no checkpoint, or that of another network.
    """

    def __init__(
        self,
        cfg: Config,
        path: str | Path,
        *,
        needs_auxiliary: bool = False,
        trust_pickle: bool = False,
    ):
        self.cfg = cfg
        self.checkpoint = read_checkpoint(path, trust_pickle=trust_pickle)
        unneeded = (LOCAL_PREFIX,) if needs_auxiliary else TRAINING_ONLY
        try:
            self.network = load_network(cfg, self.checkpoint, unneeded)
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from error

    @property
    def unit_names(self) -> list[str]:
        """Of its backbone, in the order they run."""
        return [unit.name for unit in units_of(self.network.backbone)]


def uncut(cfg: Config) -> Config:
    """The config without walls: where a network was cut does not matter to probes."""
    cfg = copy.deepcopy(cfg)
    gone = ('end_to_end_every', 'deep_supervision', 'recompute')
    localize(cfg, {'splits': [], **dict.fromkeys(gone)})
    return cfg


def measure_information(
    trained: TrainedNetwork, options: Options
) -> tuple[Entry, Pictures]:
    """Train and score a probe at every boundary.

    Args:
        trained: The network; not changed.
        options: How.

    Returns:
        ``constant`` and ``boundaries`` of `score_probes`, with ``unit_number`` (from 1)
        of each; and pictures of reconstructions.
    """
    set_random_seed(options.seed)
    cfg, network = trained.cfg, trained.network.to(get_device())
    names = probed_boundaries(trained.unit_names, options.boundaries)
    probes = build_probes(network, names, preset=options.head, seed=options.seed)
    batches = training_batches(
        cfg, network, num=num_batches(options.iterations), seed=options.seed
    )
    constants = train_probes(network, probes, batches, options.iterations)
    found = score_probes(network, probes, constants, validation_batches(cfg, network))
    for boundary in found['boundaries']:
        boundary['unit_number'] = 1 + trained.unit_names.index(boundary['unit'])
    return {**found, 'notes': _notes(found['constant'])}, _pictures(
        cfg, network, probes
    )


def measure_gradients(trained: TrainedNetwork, options: Options) -> Entry:
    """Compare gradients of local heads, trained first if the checkpoint lacks them.

    Args:
        trained: A network with local heads, which are changed; the rest is not.
        options: How.

    Returns:
        ``modules``, see `compare_gradients`.

    Raises:
        ValueError: if there are no local heads.
    """
    set_random_seed(options.seed)
    cfg, network = trained.cfg, trained.network.to(get_device())
    heads = heads_by_unit(network)
    are_loaded = load_local_heads(network, trained.checkpoint)
    with training_mode(network):
        if not are_loaded:
            with quiet_log():
                network.local_heads.init_weights()
            batches = training_batches(
                cfg, network, num=options.iterations, seed=options.seed
            )
            ahead = dict(zip(heads, network.units_ahead, strict=True))
            train_heads(network, heads, batches, options.iterations, ahead)
        # Another seed: not the images that the heads were just trained on.
        batches = training_batches(
            cfg, network, num=options.num_batches, seed=options.seed + 1
        )
        modules = compare_gradients(network, batches)
    source = 'of the checkpoint'
    if not are_loaded:
        source = f'trained for {options.iterations} iterations on the frozen network'
    note = f'local heads {source}; walls after {", ".join(heads)}'
    return {'modules': modules, 'notes': [note]}


def _notes(constant: Mapping[str, float]) -> list[str]:
    excess = constant['cross_entropy_bits'] - constant['label_entropy_bits']
    return [
        f'labels cost {constant["cross_entropy_bits"]:.3f} bits per pixel under the '
        'class frequencies of training; the entropy of their own frequencies is '
        f'{constant["label_entropy_bits"]:.3f}: bounds on I(h, y) may be too high by '
        f'up to {excess:.3f}',
        'the BCE of a perfect reconstruction is '
        f'{constant["least_bce"]:.4f} nats per value',
        'negative bounds are shown as 0',
    ]


def _pictures(
    cfg: Config, network: InfoProEncoderDecoder, probes: Mapping[str, Any]
) -> Pictures:
    """Of images from all over the validation data."""
    dataset: Any = DATASETS.build(copy.deepcopy(cfg.val_dataloader.dataset))
    places = np.linspace(0, len(dataset) - 1, min(_NUM_PICTURES, len(dataset)))
    return reconstructions(network, probes, dataset, [int(place) for place in places])
