"""A trained network, its maps, and the data it is probed with."""

import copy
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.runner import Runner
from mmseg.registry import MODELS
from torch import Tensor

from ..checkpoints.files import stock_state_dict
from ..datasets.check.label_rules import head_rules
from ..datasets.check.labels import check_batch
from ..engine.check_weights_hook import TRAINING_ONLY, load_weights
from ..models import InfoProEncoderDecoder
from ..scopes import use_scope_of
from ..units import State, units_of


def load_network(
    cfg: Config,
    checkpoint: Mapping[str, Any],
    unneeded: tuple[str, ...] = TRAINING_ONLY,
) -> InfoProEncoderDecoder:
    """Build the network of a local config with the weights of a checkpoint.

    Args:
        cfg: Its config.
        checkpoint: From `read_checkpoint`; weights of local heads are not loaded.
        unneeded: Prefixes of weights that may be missing.

    Returns:
        In evaluation mode, on the CPU.

    Raises:
        ValueError: if the checkpoint is of another network.
    """
    use_scope_of(cfg)
    model = copy.deepcopy(cfg.model)
    # The checkpoint has all weights: nothing need be downloaded.
    model.pop('pretrained', None)
    network = revert_sync_batchnorm(MODELS.build(model))
    stock = stock_state_dict(checkpoint['state_dict'])
    load_weights(network, {**checkpoint, 'state_dict': stock}, unneeded)
    network.eval()  # mmseg's return None
    return network


@torch.no_grad()
def states_after(
    network: InfoProEncoderDecoder, inputs: Tensor, names: Collection[str]
) -> Iterator[tuple[str, State]]:
    """Run the units one after the other; stop at those that are named.

    A state is given before the next unit runs, which may change its map in place.

    Args:
        network: In any mode.
        inputs: Normalised images (N, C, H, W).
        names: Of units.

    Yields:
        Name of each of these units and the state behind it, without gradient.
    """
    state = State(inputs)
    num_left = len(names)
    for unit in units_of(network.backbone):
        state = unit(network.backbone, state)
        if unit.name in names:
            yield unit.name, state
            num_left -= 1
        if not num_left:
            return


def feature_maps(
    network: InfoProEncoderDecoder, inputs: Tensor, names: Collection[str]
) -> Iterator[tuple[str, Tensor]]:
    """As `states_after`, but yields the maps (N, C, h, w)."""
    for name, state in states_after(network, inputs, names):
        yield name, state.feature_map()


def training_batches(
    cfg: Config, network: InfoProEncoderDecoder, *, num: int, seed: int
) -> Iterator[dict]:
    """Batches of the training data with its augmentations, ready for the network.

    Args:
        cfg: A complete config.
        network: Its network; normalises and pads the images.
        num: How many; short data are begun anew.
        seed: Of order and augmentations.

    Raises:
        ValueError: if the network has no class for a label, or images are not in the
            range that mean and std imply.
    """
    loader = Runner.build_dataloader(copy.deepcopy(cfg.train_dataloader), seed=seed)
    rules = head_rules(network)
    num_given = 0
    while True:
        for data in loader:
            check_batch(data, rules)
            batch = network.data_preprocessor(data, training=True)
            if num_given == 0:
                network.check_image_range(batch['inputs'])
            yield batch
            num_given += 1
            if num_given == num:
                return


def validation_batches(cfg: Config, network: InfoProEncoderDecoder) -> Iterator[dict]:
    """All batches of the validation data, ready for the network.

    Raises:
        ValueError: if the network has no class for a label.
    """
    loader = Runner.build_dataloader(copy.deepcopy(cfg.val_dataloader), seed=0)
    rules = head_rules(network)
    for data in loader:
        check_batch(data, rules)
        yield network.data_preprocessor(data, training=False)
