"""How local gradients agree with the end-to-end gradient at the same weights."""

import contextlib
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.files import LOCAL_META, LOCAL_PREFIX
from ..models import InfoProEncoderDecoder, LocalHead, LocalModule
from ..models.heads.local_head import Losses

#: Gradients by name of the losses that they come from.
_Gradients = dict[str, Tensor]
RECONSTRUCTION, SEGMENTATION, HEAD = 'reconstruction', 'segmentation', 'local head'
AUXILIARY, ALL = 'auxiliary heads', 'all losses'


def load_local_heads(
    network: InfoProEncoderDecoder, checkpoint: Mapping[str, Any]
) -> bool:
    """Load the local heads of a checkpoint, if they belong to the same walls.

    Args:
        network: With local heads, which are changed in place.
        checkpoint: From `read_checkpoint`.

    Returns:
        Whether they were loaded: False if the checkpoint has none, or others.
    """
    meta = (checkpoint.get('meta') or {}).get(LOCAL_META) or {}
    if list(meta.get('splits', ())) != list(network.local['splits']):
        return False
    given = {
        name.removeprefix(LOCAL_PREFIX): value
        for name, value in checkpoint['state_dict'].items()
        if name.startswith(LOCAL_PREFIX)
    }
    own = network.local_heads.state_dict()
    if {k: v.shape for k, v in given.items()} != {k: v.shape for k, v in own.items()}:
        return False
    network.local_heads.load_state_dict(given)
    return True


def heads_by_unit(network: InfoProEncoderDecoder) -> dict[str, LocalHead]:
    """The local heads by name of the unit in front of their walls.

    Raises:
        ValueError: if there are none.
    """
    splits = network.local['splits']
    if not splits or not network.local_heads:
        raise ValueError(
            '--gradients compares the gradients of local heads, and this config has '
            'none: add --local num_modules=4, and remove end_to_end_every=1.'
        )
    return dict(zip(splits, network.local_heads, strict=True))


@contextlib.contextmanager
def training_mode(network: InfoProEncoderDecoder) -> Iterator[None]:
    """Train mode, as gradients of training need it; buffers are restored at the end."""
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network.train()
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                if not name.startswith(LOCAL_PREFIX):
                    buffer.copy_(before[name])
        network.eval()


def compare_gradients(
    network: InfoProEncoderDecoder, batches: Iterable[Mapping]
) -> list[dict[str, Any]]:
    """Compare the gradients of local heads with the end-to-end gradient.

    Both are those of a module's backbone weights on the same batch. The end-to-end loss
    is that of the decode head and all auxiliary heads, as in end-to-end training.

    Args:
        network: With trained local heads, in training mode; its gradients are cleared.
        batches: With ``inputs`` and ``data_samples``.

    Returns:
        For each module but the last that has trainable weights, and each kind of loss
        that it has (see `loss_kinds`): ``module``, ``unit`` (its last), ``loss``, and
        mean and standard deviation over batches of ``cosine`` and of ``norm_ratio``,
        the norm of the local gradient over that of the end-to-end one. A deviation of
        one batch is None.
    """
    found: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for batch in batches:
        # Both passes draw the same random numbers (stochastic depth).
        with torch.random.fork_rng():
            exact = _end_to_end_gradients(network, batch)
        for module, gradients in _local_gradients(network, batch):
            for kind, gradient in loss_kinds(gradients).items():
                pair = agreement(gradient, exact[module.index])
                found.setdefault((module.index, kind), []).append(pair)
    rows = []
    for (index, kind), pairs in found.items():
        module = network.local_modules[index]
        cosines, ratios = zip(*pairs, strict=True)
        rows.append(
            {
                'module': module.name,
                'unit': module.units[-1].name,
                'loss': kind,
                'cosine': _mean_and_deviation(cosines),
                'norm_ratio': _mean_and_deviation(ratios),
            }
        )
    return rows


def agreement(local: Tensor, exact: Tensor) -> tuple[float, float]:
    """Cosine of two gradients, and the norm of the first over that of the second.

    Args:
        local: (P,).
        exact: (P,).
    """
    local, exact = local.double(), exact.double()
    norms = local.norm().item(), exact.norm().item()
    product = norms[0] * norms[1]
    cosine = torch.dot(local, exact).item() / product if product else 0.0
    return cosine, norms[0] / norms[1] if norms[1] else float('inf')


def loss_kinds(gradients: _Gradients) -> _Gradients:
    """Gradients of single losses, and sums of them where there are several.

    ``local head`` is that of its two halves, ``all losses`` with auxiliary heads that
    train the module, too.
    """
    kinds = dict(gradients)
    halves = [kinds[k] for k in (RECONSTRUCTION, SEGMENTATION) if k in kinds]
    if len(halves) == 2:
        kinds[HEAD] = halves[0] + halves[1]
    if AUXILIARY in kinds and halves:
        kinds[ALL] = sum(halves, kinds[AUXILIARY])
    return kinds


def _end_to_end_gradients(
    network: InfoProEncoderDecoder, batch: Mapping
) -> list[Tensor]:
    """The gradient of every module but the last, from an exact end-to-end step."""
    modules = network.local_modules[:-1]
    before, network.is_end_to_end = network.is_end_to_end, True
    # Losses of local heads are left out: there they only train the heads.
    with _local_losses_to(network, lambda module, losses: {}):
        losses = network.loss(batch['inputs'], batch['data_samples'])
    network.is_end_to_end = before
    total, _ = network.parse_losses(losses)
    parameters = [_trainable(module, network) for module in modules]
    flat = [p for own in parameters for p in own]
    if not flat:
        return [torch.zeros(0) for _ in modules]
    gradients = iter(_filled(torch.autograd.grad(total, flat, allow_unused=True), flat))
    return [_joined([next(gradients) for _ in own]) for own in parameters]


def _local_gradients(
    network: InfoProEncoderDecoder, batch: Mapping
) -> list[tuple[LocalModule, _Gradients]]:
    """Gradients of every module but the last, by kind of loss."""
    found: list[tuple[LocalModule, _Gradients]] = []

    def differentiate(module: LocalModule, losses: Losses) -> Losses:
        parameters = _trainable(module, network)
        parts: dict[str, Losses] = {}
        for name, value in losses.items():
            parts.setdefault(_kind_of(name, module), {})[name] = value
        gradients = {}
        for kind, part in parts.items():
            total, _ = network.parse_losses(part)
            # Auxiliary heads may read outputs of earlier modules alone.
            if parameters and isinstance(total, Tensor) and total.requires_grad:
                grads = torch.autograd.grad(
                    total, parameters, retain_graph=True, allow_unused=True
                )
                gradients[kind] = _joined(_filled(grads, parameters))
        if gradients:
            found.append((module, gradients))
        return {}

    with _local_losses_to(network, differentiate):
        network.loss(batch['inputs'], batch['data_samples'])
    return found


@contextlib.contextmanager
def _local_losses_to(
    network: InfoProEncoderDecoder,
    callback: Callable[[LocalModule, Losses], Losses],
) -> Iterator[None]:
    """Hand the losses of local modules to a callback, with walls between them."""
    before = network.local_backward, network.deep_supervision
    network.local_backward, network.deep_supervision = callback, False
    try:
        yield
    finally:
        network.local_backward, network.deep_supervision = before


def _kind_of(loss: str, module: LocalModule) -> str:
    if not loss.startswith(f'{module.name}.'):
        return AUXILIARY
    is_image = loss == f'{module.name}.loss_recon'
    return RECONSTRUCTION if is_image else SEGMENTATION


def _trainable(module: LocalModule, network: InfoProEncoderDecoder) -> list[Tensor]:
    return [p for p in module.parameters(network.backbone) if p.requires_grad]


def _filled(
    gradients: Iterable[Tensor | None], parameters: Iterable[Tensor]
) -> list[Tensor]:
    return [
        torch.zeros_like(p) if gradient is None else gradient
        for gradient, p in zip(gradients, parameters, strict=True)
    ]


def _joined(gradients: list[Tensor]) -> Tensor:
    if not gradients:
        return torch.zeros(0)
    return torch.cat([gradient.flatten() for gradient in gradients])


def _mean_and_deviation(values: Iterable[float]) -> dict[str, float | None]:
    values = list(values)
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {'mean': statistics.fmean(values), 'deviation': deviation}
