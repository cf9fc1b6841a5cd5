"""The only glue between local modules and the runner: who calls backward, and when."""

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping

from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.optim import AmpOptimWrapper, OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ..compat import accumulative_counts
from ..models import InfoProEncoderDecoder, LocalModule
from ..models.heads.local_head import Losses
from ..models.local_backward import local_backward
from ..models.segmentor import sum_losses
from ..scopes import register
from .local_model import find_local_model, local_model_of
from .loss_guard_hook import LossGuardHook
from .memory_advice_hook import MemoryAdviceHook
from .random_streams_hook import RandomStreamsHook
from .registering import register_missing
from .train_step import surround_train_step


@register(HOOKS)
class LocalBackwardHook(Hook):
    """Runs the backward pass of a local module as soon as its losses are known.

    Its activations are freed before the next module runs; this is where the memory is
    saved. The runner's own backward is left with the last module, and everything
    after it (clipping, the optimizer step, gradient scaling, hooks) with the runner.
    Gradients equal those of one backward over the sum of all losses.

    Only the runner's training step does so: a loss that is computed between steps has
    no effect on gradients, as in the host. An optimizer wrapper whose ``update_params``
    or ``backward`` is not the host's may have other plans for gradients before the last
    backward pass, such as to zero them: then there is only that one, over the sum, and
    a warning.

    Where the model says ``end_to_end_every=n``, it is told which steps are exact
    end-to-end training: every n-th step of the optimizer, counted by the runner's
    iterations, so that a resumed run continues where it was.

    A run that lists it alone gets `LossGuardHook` and `MemoryAdviceHook` beside it, and
    `RandomStreamsHook` if the model has ``random_streams='module'``.

    Args:
        on_divergence: Deprecated; set it in `LocalTrainingHook`.

    Raises:
        ValueError: if ``on_divergence`` is unknown.
    """

    def __init__(self, on_divergence: str | None = None) -> None:
        self._guard = {}
        self._early: Callable[[LocalModule, Losses], Losses] | None = None
        self._leave: Callable[[], None] | None = None
        self._has_stepped = False
        if on_divergence is not None:
            LossGuardHook(on_divergence)
            self._guard['on_divergence'] = on_divergence
            warnings.warn(
                'on_divergence of LocalBackwardHook is deprecated: set '
                f'LocalTrainingHook(on_divergence={on_divergence!r}).',
                stacklevel=2,
            )

    def before_run(self, runner: Runner) -> None:
        """Register what belongs beside early backward passes."""
        wanted: dict[type[Hook], dict[str, str]] = {
            LossGuardHook: self._guard,
            MemoryAdviceHook: {},
        }
        model = find_local_model(runner.model)
        if model is not None and model.random_streams == 'module':
            wanted[RandomStreamsHook] = {}
        register_missing(runner, wanted)

    def before_train(self, runner: Runner) -> None:
        """Check the set-up and install the callback.

        Raises:
            TypeError: if the model has no local modules, or if there are several
                optimizers.
            RuntimeError: if the model's wrapper or its settings would give wrong
                gradients, or ``activation_checkpointing`` is set.
        """
        model, optim_wrapper = self._model_of(runner), runner.optim_wrapper
        _check_optim_wrapper(optim_wrapper)
        _check_checkpointing(getattr(runner, 'cfg', None) or {})
        is_local = model.end_to_end_every != 1
        if is_local and isinstance(runner.model, MMDistributedDataParallel):
            _check_distributed(runner.model)
        # Between steps; in them, too, where early passes would be wrong.
        model.local_backward = sum_losses
        if not model.local_heads or model.deep_supervision:
            return
        if own := _own_methods(optim_wrapper):
            _warn_of(optim_wrapper, own)
            return
        self._early = functools.partial(local_backward, optim_wrapper)
        self._leave = surround_train_step(
            runner.model, functools.partial(self._in_step, model)
        )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Tell the model whether gradients cross the walls in this step."""
        model = self._model_of(runner)
        if model.end_to_end_every is not None:
            counts = accumulative_counts(runner.optim_wrapper)
            step = runner.iter // counts + 1
            model.is_end_to_end = step % model.end_to_end_every == 0

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Warn of a loop that does not use the model's training step."""
        if self._leave is not None and not self._has_stepped:
            self._has_stepped = True
            _log(
                f'{type(runner.train_loop).__name__} does not call model.train_step: '
                'local modules run backward together at the end, which takes more '
                'memory than end-to-end training.'
            )

    def after_train(self, runner: Runner) -> None:
        """Remove the callback, so that the model can be used elsewhere."""
        if self._leave is not None:
            self._leave()
            self._leave = None
        model = self._model_of(runner)
        model.local_backward = None
        model.is_end_to_end = model.end_to_end_every == 1

    @contextlib.contextmanager
    def _in_step(self, model: InfoProEncoderDecoder) -> Iterator[None]:
        self._has_stepped = True
        before, model.local_backward = model.local_backward, self._early
        try:
            yield
        finally:
            model.local_backward = before

    def _model_of(self, runner: Runner) -> InfoProEncoderDecoder:
        wrapper = runner.model
        is_known = isinstance(wrapper, MMDistributedDataParallel)
        if is_model_wrapper(wrapper) and not is_known:
            raise RuntimeError(
                f'LocalBackwardHook does not support the model wrapper '
                f'{type(wrapper).__name__}: backward passes inside forward are only '
                'known to be right with MMDistributedDataParallel. Remove '
                'model_wrapper_cfg or the strategy, or train end-to-end.'
            )
        return local_model_of(wrapper, self)


def _check_optim_wrapper(optim_wrapper: OptimWrapper) -> None:
    if isinstance(optim_wrapper, OptimWrapperDict):
        raise TypeError(
            'LocalBackwardHook needs one optimizer for the whole network, got '
            "OptimWrapperDict. Set optim_wrapper.type to 'OptimWrapper' or "
            "'AmpOptimWrapper'."
        )


def _own_methods(optim_wrapper: OptimWrapper) -> list[str]:
    """Those in which the host would first meet the gradients of a step."""
    kind, known = type(optim_wrapper), (OptimWrapper, AmpOptimWrapper)
    return [
        name
        for name in ('update_params', 'backward')
        if getattr(kind, name, None) not in [getattr(stock, name) for stock in known]
    ]


def _warn_of(optim_wrapper: OptimWrapper, own: list[str]) -> None:
    name = type(optim_wrapper).__name__
    _log(
        f'{name} has its own {" and ".join(own)}, which may change loss or gradients '
        'before the backward pass: local modules run backward together at the end, '
        'which takes more memory than end-to-end training. To save memory, override '
        'scale_loss, step or zero_grad instead, or set optim_wrapper.type to '
        "'OptimWrapper' or 'AmpOptimWrapper'."
    )


def _log(text: str) -> None:
    MMLogger.get_current_instance().warning(text)


def _check_checkpointing(cfg: Mapping) -> None:
    modules = cfg.get('activation_checkpointing')
    if modules:
        raise RuntimeError(
            f'activation_checkpointing={modules!r} of the config would have no effect '
            'on stages, which run block by block, and plans do not know of it. Remove '
            "it and name units in model.local, such as local=dict(recompute=['layer3.0"
            "'])."
        )


def _check_distributed(model: MMDistributedDataParallel) -> None:
    if model.static_graph:
        raise RuntimeError(
            'static_graph=True gives wrong gradients when modules run backward early. '
            'Set model_wrapper_cfg=dict(find_unused_parameters=True) without it.'
        )
    if not model.find_unused_parameters:
        raise RuntimeError(
            'find_unused_parameters=False leaves early gradients without averaging '
            'over the processes. Set find_unused_parameters=True in the config.'
        )
