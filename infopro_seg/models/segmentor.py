"""The segmentor that trains its network as gradient-isolated local modules."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.model import ModuleList
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.utils import add_prefix
from torch import Tensor, nn

from ..scopes import register
from ..settings import LocalSettings, with_cuts
from ..settings.recompute_mode import DECODE_HEAD, RecomputeMode
from ..units import State, Unit, units_of
from .build import build_local_heads, require_losses
from .heads.local_head import LocalHead, Losses
from .heads.reconstruction import valid_pixels
from .image_range import check_range, known_range, recovered, to_unit_range
from .isolation import checked_isolation
from .local_module import LocalModule, cut_into_modules
from .look_ahead import looked_ahead
from .losses.chunked import use_lean_loss, warn_of
from .probe import Boundary, Probe, image_sizes, input_channels, probe_backbone
from .readers import auxiliary_heads, find_readers, stages_of
from .recompute.inner import exact_inner_checkpoints
from .recompute.run import head_recompute, resolve_recompute
from .segments import run_segment
from .splitting import resolve_splits
from .stage import Stage


def head_losses(
    network: EncoderDecoder,
    head: LocalHead,
    state: State,
    units_ahead: Sequence[Unit],
    images: Tensor,
    data_samples: list,
) -> Losses:
    """The losses of a local head.

    Args:
        network: Owner of the units.
        head: The local head.
        state: What leaves its module.
        units_ahead: The later units that it looks through, if any.
        images: Reconstruction target (N, C, H, W) in [0, 1].
        data_samples: N samples with ``gt_sem_seg`` (1, H, W).
    """
    ahead = None
    if units_ahead and head.segmentation is not None:
        ahead = looked_ahead(units_ahead, network.backbone, state).feature_map()
    feature_map = state.feature_map()
    return head.loss(feature_map, images, data_samples, network.train_cfg, ahead)


def sum_losses(module: LocalModule, losses: Losses) -> Losses:
    """A `local_backward` that leaves all losses to one backward pass at the end.

    Gradients are the same, but no memory is saved.
    """
    return losses


@register(MODELS)
class InfoProEncoderDecoder(EncoderDecoder):
    """An mmseg EncoderDecoder whose backbone is cut into local modules by walls.

    This type and ``local`` turn any EncoderDecoder config into a local one. Prediction,
    test-time augmentation and slide inference are the stock ones, and so are the names
    of the weights: only ``local_heads.*`` is added, and it is only used in training.
    Without a split it is the stock model, bit for bit; but blocks with ``with_cp=True``
    update their running statistics once a step, not twice.

    Args:
        args: Positional arguments of EncoderDecoder.
        local: The local modules::

                dict(splits=['layer3.12'],     # or num_modules=2
                     head=dict(preset='lean'), # see `complete_head`, `look_ahead_of`
                     weights=dict(reconstruction=(1.5, 1.5), segmentation=(1., 1.)),
                     recompute=['layer4.2', 'decode_head:stepwise'],
                     lean_loss=True,           # see `use_lean_loss`
                     image_range=None,         # see `known_range`
                     end_to_end_every=None,    # see `LocalSettings`
                     deep_supervision=False,   # see `LocalSettings`
                     pipeline=None,            # see `LocalSettings`
                     random_streams='process') # see `LocalSettings`

            Weights are lambda1 and lambda2 of the first module and of the last but
            one, linear in between. Nothing is recomputed unless asked for (see
            `resolve_recompute`). Where there is a wall and the loss allows it,
            cross-entropies are computed in chunks, which are equal up to rounding.
        kwargs: Keyword arguments of EncoderDecoder.

    Raises:
        TypeError: if the backbone has no units (see `units_of`), or ``local`` is of
            the wrong kind.
        ValueError: if ``local`` has wrong values (see `LocalSettings`), or if nothing
            trains a module (see `require_losses`).
    """

    #: Called with the losses of a module as soon as they are known; returns them
    #: detached. `LocalBackwardHook` sets it during training; `sum_losses` takes its
    #: place where no early backward is wanted.
    local_backward: Callable[[LocalModule, Losses], Losses] | None = None
    #: Context managers entered while a module runs, including its losses and its local
    #: backward pass.
    watchers: tuple[Callable[[LocalModule], AbstractContextManager], ...] = ()
    #: What this process trains of the network; a pipeline gives it fewer modules.
    stage = Stage()

    def __init__(self, *args: Any, local: dict, **kwargs: Any):
        super().__init__(*args, **kwargs)
        settings = LocalSettings.parse(local)
        self.end_to_end_every = settings.end_to_end_every
        #: Whether gradients cross the walls in the next step. If only some steps are
        #: like this, `LocalBackwardHook` counts them.
        self.is_end_to_end = settings.end_to_end_every == 1
        self.deep_supervision = settings.deep_supervision
        self.pipeline = settings.pipeline
        self.random_streams = settings.random_streams
        units = units_of(self.backbone)
        self.image_channels = self._count_image_channels()
        probe = self._probed(units)
        splits = resolve_splits(self, settings, units, probe)
        #: The ``local`` setting with its cuts resolved to splits.
        self.local = with_cuts(local, splits, settings.recompute)
        if settings.end_to_end_every is not None:
            # It may come from a plan, which the cuts have taken the place of.
            self.local['end_to_end_every'] = settings.end_to_end_every
        names = [unit.name for unit in units]
        recompute = resolve_recompute(settings.recompute, names)
        self.head_mode = recompute.get(DECODE_HEAD, RecomputeMode.NOTHING)
        self.local_modules = cut_into_modules(units, splits, recompute)
        cuts = [names.index(split) + 1 for split in splits]
        #: For each local head, the later units that it looks through.
        self.units_ahead = [
            tuple(units[cut : cut + settings.look_ahead]) for cut in cuts
        ]
        ends = [probe.boundaries[cut - 1] for cut in cuts]
        ahead = [
            probe.boundaries[cut - 1 + len(through)]
            for cut, through in zip(cuts, self.units_ahead, strict=True)
        ]
        self.local_heads = self._build_local_heads(settings, ends, ahead)
        self._is_range_given = settings.image_range is not None
        self._image_range = known_range(self.data_preprocessor, settings.image_range)
        self._num_outputs = len(probe.outputs)
        readers = find_readers(self, probe.outputs, [end.num_outputs for end in ends])
        self.auxiliary_module, self._read_later, self._read_ever = readers
        require_losses(
            self.local_modules,
            self.local_heads,
            self.auxiliary_module.values(),
            self.backbone,
        )
        self.lean_loss = settings.lean_loss
        self._choose_losses(has_walls=bool(splits) and not self.is_end_to_end)
        #: Whether a batch has been looked at, see `_look_at_first_batch`.
        self._has_trained = False
        #: Modules whose backward pass has been looked at, see `checked_isolation`.
        self._known_isolated: set[int] = set()

    def loss(self, inputs: Tensor, data_samples: list) -> Losses:
        """Run the local modules one after the other, each with its own losses.

        Args:
            inputs: Normalised images (N, C, H, W).
            data_samples: N samples with ``gt_sem_seg`` (1, H, W).

        Returns:
            ``local_<k>.loss_recon``, ``local_<k>.loss_seg``, ... of all modules but
            the last, then the stock losses of the decode and auxiliary heads. With
            `local_backward` set, the losses of all but the last module have
            been differentiated and carry no history.

        Raises:
            ValueError: if the images of the first batch are not in the range that mean
                and std imply, see `check_range`.
        """
        if not self._has_trained and self.training and torch.is_grad_enabled():
            self._look_at_first_batch(inputs)
        losses: Losses = {}
        states, batch = [self.stage.receive(inputs)], (inputs, data_samples)
        run = self._run_segment if self.is_end_to_end else self._run_local
        for module in self.stage.modules(self.local_modules):
            with self._watched(module):
                if module is self.local_modules[-1]:
                    state = module.consume(self.backbone, states)
                    losses.update(self.last_losses(state, data_samples))
                else:
                    losses.update(run(module, states, *batch))
        return self.stage.with_earlier(losses)

    def reconstruction_target(
        self, inputs: Tensor, data_samples: Sequence = ()
    ) -> Tensor:
        """The images in [0, 1] that the normalised ``inputs`` were made from.

        Black and white follow from mean and std of the data preprocessor, see
        `known_range`; if they cannot, from each image, see `to_unit_range`.

        Args:
            inputs: (N, C, H, W), as the data preprocessor returns them.
            data_samples: N samples that say what is padding; may be empty.

        Returns:
            The same shape and channel order.
        """
        images = recovered(self.data_preprocessor, inputs)
        valid = None
        if self._image_range is None:
            size = (inputs.shape[-2], inputs.shape[-1])
            valid = valid_pixels(data_samples, size, inputs.device)
        return to_unit_range(images, self._image_range, valid)

    @torch.no_grad()
    def reconstruct(self, inputs: Tensor) -> Losses:
        """Reconstruct the images from the output of each local module.

        Args:
            inputs: Normalised images (N, C, H, W).

        Returns:
            For every module with a reconstruction head, ``local_<k>``: images
            (N, C, H, W) in [0, 1].
        """
        images = {}
        state = State(inputs)
        for module in self.local_modules[: len(self.local_heads)]:
            state = module(self.backbone, state)
            half = self.local_heads[module.index].reconstruction
            if half is not None:
                logits = half(state.feature_map(), tuple(inputs.shape[-2:]))
                images[module.name] = logits.sigmoid()
        return images

    @contextlib.contextmanager
    def _watched(self, module: LocalModule) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            stack.enter_context(exact_inner_checkpoints())
            for watch in self.watchers:
                stack.enter_context(watch(module))
            yield

    def _run_local(
        self,
        module: LocalModule,
        states: list[State],
        inputs: Tensor,
        data_samples: list,
    ) -> Losses:
        """Run a module up to its wall, trained by its local head and auxiliary heads.

        The last of the states is replaced, so that the module's input is freed as early
        as possible.

        In a frozen module there is nothing for a local head to train; auxiliary heads
        still train themselves. With deep supervision there is no wall.
        """
        state = module.consume(self.backbone, states)
        passed = state if self.deep_supervision else state.detach()
        states.append(passed.keep(self._read_later[module.index]))
        self.stage.pass_on(module, states[-1])
        losses: Losses = {}
        if state.requires_grad or not torch.is_grad_enabled():
            losses = self._head_losses(module, state, inputs, data_samples)
        missing = self._num_outputs - len(state.outputs)
        features = (*state.outputs, *[None] * missing)
        losses.update(self._auxiliary_losses(features, data_samples, module.index))
        return self._differentiated(module, losses)

    def _run_segment(
        self,
        module: LocalModule,
        states: list[State],
        inputs: Tensor,
        data_samples: list,
    ) -> Losses:
        """Run a module that gradients pass; a local head only trains itself."""
        state = run_segment(module, self.backbone, states.pop())
        losses: Losses = {}
        if self.local_heads and (state.requires_grad or not torch.is_grad_enabled()):
            losses = self._head_losses(module, state.detach(), inputs, data_samples)
        states.append(state.keep(self._read_ever))
        return self._differentiated(module, losses)

    def _head_losses(
        self, module: LocalModule, state: State, inputs: Tensor, data_samples: list
    ) -> Losses:
        losses = head_losses(
            self,
            self.local_heads[module.index],
            state,
            self.units_ahead[module.index],
            self.reconstruction_target(inputs, data_samples),
            data_samples,
        )
        return add_prefix(losses, module.name)

    def _differentiated(self, module: LocalModule, losses: Losses) -> Losses:
        if self.local_backward is None or self.deep_supervision or not losses:
            return losses
        if module is self.stage.modules(self.local_modules)[-1]:
            return losses  # its backward pass is the runner's
        if self.is_end_to_end or module.index in self._known_isolated:
            return self.local_backward(module, losses)
        self._known_isolated.add(module.index)
        later = self.local_modules[module.index + 1 :]
        with checked_isolation(module, later, self.backbone):
            return self.local_backward(module, losses)

    def last_losses(self, state: State, data_samples: list) -> Losses:
        """The losses of the last module, which ends in the network's own head."""
        features = state.result()
        if self.with_neck:
            features = self.neck(features)
        if not self.is_end_to_end:
            losses = self._decode_head_forward_train(features, data_samples)
            last = self.local_modules[-1].index
            losses.update(self._auxiliary_losses(features, data_samples, last))
            return losses
        with self._exact_losses():
            losses = self._decode_head_forward_train(features, data_samples)
            losses.update(self._auxiliary_losses(features, data_samples))
        return losses

    @contextlib.contextmanager
    def _exact_losses(self) -> Iterator[None]:
        """Use the stock losses, bit for bit, unless losses in chunks were asked for."""
        if self.lean_loss:
            yield
            return
        heads = self._stock_heads().values()
        lean = [(head, vars(head).pop('loss_by_feat', None)) for head in heads]
        try:
            yield
        finally:
            for head, loss_by_feat in lean:
                if loss_by_feat is not None:
                    head.loss_by_feat = loss_by_feat

    def _decode_head_forward_train(
        self, inputs: tuple[Tensor, ...], data_samples: list
    ) -> Losses:
        with head_recompute(self.head_mode):
            return super()._decode_head_forward_train(inputs, data_samples)

    def _auxiliary_losses(
        self, features: tuple, data_samples: list, index: int | None = None
    ) -> Losses:
        """Losses of the auxiliary heads that train module ``index``; None for all."""
        losses = {}
        for prefix, head in auxiliary_heads(self).items():
            if index in (None, self.auxiliary_module[prefix]):
                entries = head.loss(features, data_samples, self.train_cfg)
                losses.update(add_prefix(entries, prefix))
        return losses

    def _probed(self, units: Sequence[Unit]) -> Probe:
        sizes = image_sizes(self)
        return probe_backbone(self.backbone, units, self.image_channels, sizes)

    def _build_local_heads(
        self,
        settings: LocalSettings,
        ends: Sequence[Boundary],
        ahead: Sequence[Boundary],
    ) -> ModuleList:
        if self.is_end_to_end:
            ends = ahead = []  # no local head trains where every step is end-to-end
        stages = stages_of(self.decode_head)
        return build_local_heads(
            settings, ends, stages, self.image_channels, ahead=ahead
        )

    def _choose_losses(self, *, has_walls: bool) -> None:
        """Compute losses in chunks where that is asked for, or the default."""
        if self.lean_loss or (self.lean_loss is None and has_walls):
            obstacles = self.use_lean_losses()
            if self.lean_loss:
                warn_of(obstacles)

    def _count_image_channels(self) -> int:
        mean = getattr(self.data_preprocessor, 'mean', None)
        # A single value fits any number of channels.
        told = mean.numel() if isinstance(mean, Tensor) and mean.numel() > 1 else None
        return input_channels(self.backbone, told, image_sizes(self))

    def _look_at_first_batch(self, inputs: Tensor) -> None:
        """Warn about, or refuse, what would otherwise go wrong silently."""
        self._has_trained = True
        # Fake and weightless tensors have no values.
        if not self.local_heads or type(inputs) is not Tensor or inputs.is_meta:
            return
        if self.local_backward is None and not self.deep_supervision:
            MMLogger.get_current_instance().warning(
                f'{len(self.local_modules)} local modules train without early backward '
                'passes: this takes more memory than end-to-end training. Add '
                "dict(type='LocalBackwardHook') to custom_hooks."
            )
        if any(head.reconstruction is not None for head in self.local_heads):
            self.check_image_range(inputs)

    def check_image_range(self, inputs: Tensor) -> None:
        """Check the range that mean and std imply; a range of the config is believed.

        Args:
            inputs: Normalised images (N, C, H, W).

        Raises:
            ValueError: if the images are not in that range, see `check_range`.
        """
        if self._image_range is not None and not self._is_range_given:
            check_range(recovered(self.data_preprocessor, inputs), self._image_range)

    def use_lean_losses(self) -> dict[str, str | None]:
        """Let every head take its cross-entropy in chunks, if its loss allows that.

        Returns:
            For each head by name: why it keeps its own loss, or None.
        """
        return {name: use_lean_loss(h) for name, h in self.heads_with_losses().items()}

    def heads_with_losses(self) -> dict[str, nn.Module]:
        """All heads that compare logits with labels, by their names in messages."""
        heads = self._stock_heads()
        for i, local_head in enumerate(self.local_heads):
            if local_head.segmentation is not None:
                name = self.local_modules[i].name
                heads[f'the local head of {name}'] = local_head.segmentation
        return heads

    def _stock_heads(self) -> dict[str, nn.Module]:
        heads = {DECODE_HEAD: self.decode_head}
        if isinstance(self.decode_head, nn.ModuleList):
            heads = {f'{DECODE_HEAD}.{i}': h for i, h in enumerate(self.decode_head)}
        return {**heads, **auxiliary_heads(self)}

    def __getstate__(self) -> dict:
        """Copies and pickles (EMA, export) lose callbacks, which belong to a runner."""
        state = self.__dict__.copy()
        state.pop('local_backward', None)
        state.pop('watchers', None)
        state.pop('stage', None)
        return state
