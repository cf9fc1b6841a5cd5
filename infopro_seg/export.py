"""Turn a trained local model into a stock mmseg model, and prove it is the same."""

import copy
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import nn

from .checkpoint import (
    read_checkpoint,
    stock_model_config,
    stock_state_dict,
    write_checkpoint,
)


def export(
    cfg: Config,
    checkpoint_path: str | Path,
    out: str | Path,
    *,
    force: bool = False,
    trust_pickle: bool = False,
) -> str:
    """Write the stock checkpoint and, beside it, the stock model's config.

    The result is loaded strictly into the stock segmentor, and the logits of both
    models are compared on a random image before anything is written.

    Args:
        cfg: The config that the checkpoint was trained with.
        checkpoint_path: The trained checkpoint.
        out: File to write; the config goes to the same name with ``.py``.
        force: Overwrite existing files.
        trust_pickle: See `read_checkpoint`.

    Returns:
        What was done, for people.

    Raises:
        FileExistsError: if a file exists and ``force`` is False.
        ValueError: if checkpoint and config do not belong together.
        RuntimeError: if the exported model predicts something else.
    """
    out = Path(out)
    config_out = out.with_suffix('.py')
    for path in (out, config_out):
        if path.exists() and not force:
            raise FileExistsError(f'{path} exists; pass --force to overwrite it.')
    checkpoint = read_checkpoint(checkpoint_path, trust_pickle=trust_pickle)
    local = _build(cfg, cfg.model)
    _load(local, checkpoint['state_dict'], f'{checkpoint_path} (model of the config)')
    weights = stock_state_dict(checkpoint['state_dict'])
    stock_config = stock_model_config(cfg.model)
    stock = _build(cfg, stock_config)
    _load(stock, weights, f'{checkpoint_path} (stock model)')
    _require_same_logits(local, stock)
    meta = checkpoint.get('meta', {})
    kept = {k: meta[k] for k in ('dataset_meta', 'iter', 'epoch', 'seed') if k in meta}
    write_checkpoint({'meta': kept, 'state_dict': weights}, out, force=force)
    Config({'default_scope': 'mmseg', 'model': stock_config}).dump(config_out)
    removed = len(checkpoint['state_dict']) - len(weights)
    return (
        f'wrote {out}: {len(weights)} tensors, {removed} of local heads left out; '
        f'a stock {stock_config["type"]} loads it strictly and gives the same logits.\n'
        f'wrote {config_out}: its model config.'
    )


def _build(cfg: Config, model: dict) -> nn.Module:
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    model = copy.deepcopy(dict(model))
    # The checkpoint has all weights: nothing to download.
    model.pop('pretrained', None)
    network = revert_sync_batchnorm(MODELS.build(model))
    network.eval()
    return network


def _load(network: nn.Module, weights: dict, what: str) -> None:
    own = network.state_dict()
    problems = {
        'missing keys': [key for key in own if key not in weights],
        'unexpected keys': [key for key in weights if key not in own],
        'other shapes': [
            f'{key} {tuple(weights[key].shape)} instead of {tuple(own[key].shape)}'
            for key in own
            if key in weights and weights[key].shape != own[key].shape
        ],
    }
    if any(problems.values()):
        raise ValueError(
            f'{what}: checkpoint and config do not belong together ('
            + '; '.join(f'{kind}: {_some(keys)}' for kind, keys in problems.items())
            + '). Pass the config that the checkpoint was trained with.'
        )
    network.load_state_dict(weights)


def _some(keys: list[str]) -> str:
    more = f' and {len(keys) - 3} more' if len(keys) > 3 else ''
    return (', '.join(keys[:3]) + more) if keys else 'none'


def _require_same_logits(local: nn.Module, stock: nn.Module) -> None:
    size = tuple(getattr(local.backbone, 'img_size', None) or (128, 128))
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    shapes = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape'), size)
    logits = []
    for network in (local, stock):
        # Some heads (LightHamHead) draw random numbers even here: the same for both.
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            # Not mode='tensor', which PointRend does not have.
            logits.append(network.encode_decode(image, [shapes]))
    left, right = logits
    if not torch.equal(left, right):
        raise RuntimeError(
            'the exported model predicts other logits than the local one (largest '
            f'difference {(left - right).abs().max():.3g}); nothing was written. '
            'Please report this with the config.'
        )
