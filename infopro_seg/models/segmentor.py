"""The segmentor that trains its network as gradient-isolated local modules."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.utils import add_prefix
from torch import Tensor, nn

from ..recompute_mode import DECODE_HEAD, RecomputeMode
from ..settings import LocalSettings, with_cuts
from ..settings.splits import module_ranges
from ..units import State, units_of
from .build import build_local_heads, require_known_normalisation
from .local_module import LocalModule
from .losses.chunked import use_lean_loss
from .probe import probe_backbone
from .readers import auxiliary_heads, find_readers, stages_of
from .recompute import check_recompute, head_recompute, resolve_recompute
from .splitting import resolve_splits

Losses = dict[str, Tensor]


@MODELS.register_module()
class InfoProEncoderDecoder(EncoderDecoder):
    """An mmseg EncoderDecoder whose backbone is cut into local modules by walls.

    Any EncoderDecoder config becomes local by this type and ``local``. Prediction,
    test-time augmentation and slide inference are the stock ones, and so are
    the weights: only ``local_heads.*`` is added, and only used in training. Without
    a split it is the stock model, bit for bit.

    Args:
        args: Of EncoderDecoder.
        local: The local modules::

                dict(splits=['layer3.12'],     # or num_modules=2
                     head=dict(preset='lean'), # see `complete_head`
                     weights=dict(reconstruction=(1.5, 1.5), segmentation=(1., 1.)),
                     recompute=['layer4.2', 'decode_head:stepwise'],
                     lean_loss=True)           # see `use_lean_loss`

            Weights are lambda1 and lambda2 of the first module and of the last but
            one, linear in between. Nothing is recomputed, and losses are the stock
            ones, unless asked for (see `resolve_recompute`).
        kwargs: Of EncoderDecoder.

    Raises:
        TypeError: if the backbone has no units (see `units_of`), or ``local`` is of
            the wrong kind.
        ValueError: if ``local`` has wrong values (see `LocalSettings`), or asks for a
            reconstruction of images that were not normalised by the model.
    """

    #: Called with the losses of a module as soon as they are known; returns them
    #: without history. `LocalBackwardHook` sets it for the time of training.
    local_backward: Callable[[LocalModule, Losses], Losses] | None = None
    #: Each is entered while a module runs, with its losses and local backward pass.
    watchers: tuple[Callable[[LocalModule], AbstractContextManager], ...] = ()

    def __init__(self, *args, local: dict, **kwargs):
        super().__init__(*args, **kwargs)
        settings = LocalSettings.parse(local)
        units = units_of(self.backbone)
        names = [unit.name for unit in units]
        probe = probe_backbone(self.backbone, units)
        splits = resolve_splits(self, settings, units, probe)
        #: The ``local`` setting with its cuts resolved to splits.
        self.local = with_cuts(local, splits, settings.recompute)
        recompute = resolve_recompute(settings.recompute, names)
        check_recompute(recompute, self.backbone)
        self._head_mode = recompute.get(DECODE_HEAD, RecomputeMode.NOTHING)
        self.local_modules = tuple(
            LocalModule(i, tuple(units[j] for j in indices), recompute)
            for i, indices in enumerate(module_ranges(names, splits))
        )
        ends = [probe.boundaries[names.index(split)] for split in splits]
        self.local_heads = build_local_heads(
            settings, ends, stages_of(self.decode_head), probe.image_channels
        )
        if any(head.reconstruction is not None for head in self.local_heads):
            require_known_normalisation(self.data_preprocessor)
        self._num_outputs = len(probe.outputs)
        self._auxiliary_module, self._read_later = find_readers(
            self, probe.outputs, [end.num_outputs for end in ends]
        )
        if settings.lean_loss:
            self._use_lean_losses()

    def loss(self, inputs: Tensor, data_samples: list) -> Losses:
        """Run the local modules one after the other, each with its own losses.

        Args:
            inputs: Normalised images (N, 3, H, W).
            data_samples: N samples with ``gt_sem_seg`` (1, H, W).

        Returns:
            ``local_<k>.loss_recon``, ``local_<k>.loss_seg``, ... of all modules but
            the last, then the stock losses of the decode and auxiliary heads. With
            `local_backward` set, the losses of all but the last module have
            been differentiated and carry no history.
        """
        losses = {}
        state = State(inputs)
        for module in self.local_modules[:-1]:
            with self._watched(module):
                state = module(self.backbone, state)
                losses.update(self._local_losses(module, state, inputs, data_samples))
            state = state.detach(reads=self._read_later[module.index])
        with self._watched(self.local_modules[-1]):
            state = self.local_modules[-1](self.backbone, state)
            losses.update(self._last_losses(state, data_samples))
        return losses

    def reconstruction_target(self, inputs: Tensor) -> Tensor:
        """The images in [0, 1] that the normalised ``inputs`` were made from.

        Args:
            inputs: (N, 3, H, W), as the data preprocessor gives them.

        Returns:
            The same shape and channel order.
        """
        preprocessor = self.data_preprocessor
        if hasattr(preprocessor, 'mean'):
            inputs = inputs * preprocessor.std + preprocessor.mean
        return (inputs / 255).clamp(0, 1)

    @torch.no_grad()
    def reconstruct(self, inputs: Tensor) -> Losses:
        """What each local head can still tell of the images.

        Args:
            inputs: Normalised images (N, 3, H, W).

        Returns:
            For every module with a reconstruction head, ``local_<k>``: images
            (N, 3, H, W) in [0, 1].
        """
        images = {}
        state = State(inputs)
        for module in self.local_modules[:-1]:
            state = module(self.backbone, state)
            half = self.local_heads[module.index].reconstruction
            if half is not None:
                logits = half(state.feature_map(), tuple(inputs.shape[-2:]))
                images[module.name] = logits.sigmoid()
        return images

    @contextlib.contextmanager
    def _watched(self, module: LocalModule) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for watch in self.watchers:
                stack.enter_context(watch(module))
            yield

    def _local_losses(
        self, module: LocalModule, state: State, inputs: Tensor, data_samples: list
    ) -> Losses:
        """All losses that train one module but the last; differentiated at once.

        A frozen module has nothing to train: no losses.
        """
        if torch.is_grad_enabled() and not state.requires_grad:
            return {}
        losses = self.local_heads[module.index].loss(
            state.feature_map(),
            self.reconstruction_target(inputs),
            data_samples,
            self.train_cfg,
        )
        losses = add_prefix(losses, module.name)
        missing = self._num_outputs - len(state.outputs)
        losses.update(
            self._auxiliary_losses(
                module, (*state.outputs, *[None] * missing), data_samples
            )
        )
        if self.local_backward is None:
            return losses
        return self.local_backward(module, losses)

    def _last_losses(self, state: State, data_samples: list) -> Losses:
        """The losses of the last module, which ends in the network's own head."""
        features = state.result()
        if self.with_neck:
            features = self.neck(features)
        losses = self._decode_head_forward_train(features, data_samples)
        losses.update(
            self._auxiliary_losses(self.local_modules[-1], features, data_samples)
        )
        return losses

    def _decode_head_forward_train(
        self, inputs: tuple[Tensor, ...], data_samples: list
    ) -> Losses:
        with head_recompute(self._head_mode):
            return super()._decode_head_forward_train(inputs, data_samples)

    def _auxiliary_losses(
        self, module: LocalModule, features: tuple, data_samples: list
    ) -> Losses:
        losses = {}
        for prefix, head in auxiliary_heads(self).items():
            if self._auxiliary_module[prefix] == module.index:
                entries = head.loss(features, data_samples, self.train_cfg)
                losses.update(add_prefix(entries, prefix))
        return losses

    def _use_lean_losses(self) -> None:
        heads = {DECODE_HEAD: self.decode_head}
        if isinstance(self.decode_head, nn.ModuleList):
            heads = {f'{DECODE_HEAD}.{i}': h for i, h in enumerate(self.decode_head)}
        heads.update(auxiliary_heads(self))
        for module, local_head in zip(
            self.local_modules[:-1], self.local_heads, strict=True
        ):
            if local_head.segmentation is not None:
                heads[f'the local head of {module.name}'] = local_head.segmentation
        for name, head in heads.items():
            use_lean_loss(head, name)

    def __getstate__(self) -> dict:
        """Copies and pickles (EMA, export) have no callbacks: they are one runner's."""
        state = self.__dict__.copy()
        state.pop('local_backward', None)
        state.pop('watchers', None)
        return state
