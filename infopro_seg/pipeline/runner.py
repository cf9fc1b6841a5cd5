"""A runner whose processes train different local modules of one network."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import EMAHook, Hook
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop
from torch import distributed, nn
from torch.utils.data import DataLoader

from ..engine.data_share import DataShare
from ..engine.local_model import local_model_of
from ..models import InfoProEncoderDecoder, owners_of
from ..settings import LocalSettings
from ..settings.localize import is_local
from .checks import check_backend, check_config, check_stages, let_share
from .division import divide
from .heartbeat import Heartbeat
from .layout import Layout
from .link import LostStageError
from .processes import Processes
from .stage import PipelineStage
from .weights import optimizer_state, put_back, share, taken

#: Batches that may be under way from one stage to the next before the sender waits.
QUEUE = 2
# A batch is two messages: what passes the wall, and the losses.
_MESSAGES = 2
_TIMEOUT_SECONDS = 1800
# In errors of gloo.
_SIGNS_OF_LOSS = ('closed by peer', 'reset by peer', 'Broken pipe')


def num_stages_of(cfg: Config, launcher: str) -> int:
    """How many stages the processes of a run are divided into: 1 without a pipeline.

    Args:
        cfg: Config of a run.
        launcher: As in Runner; ``none`` starts one process.

    Raises:
        ValueError: if the ``local`` setting is wrong.
    """
    model = cfg.get('model')
    if launcher == 'none' or not is_local(model) or model.get('local') is None:
        return 1
    pipeline = LocalSettings.parse(model.local).pipeline or 1
    return pipeline if isinstance(pipeline, int) else len(pipeline)


class PipelineRunner(Runner):
    """mmengine's Runner, of which each process trains one stage of the network.

    Every process has the whole network, with up-to-date weights and an optimizer state
    for its own stage alone. Weights are shared before validation. A checkpoint is the
    file that a single process writes; any number of stages can resume from it.

    Args:
        args: Positional arguments of Runner.
        kwargs: Keyword arguments of Runner.

    Raises:
        ValueError: if the stages do not divide the processes, or if the config asks
            for what stages cannot do apart, see `check_config`.
    """

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Give the network its stage; replicas of a stage average their gradients.

        Args:
            model_wrapper_cfg: As in Runner.
            model: A local model. ``env_cfg.dist_cfg.timeout`` of the config is the
                number of seconds that one process may keep another waiting.
        """
        network = local_model_of(model, self)
        check_config(self.cfg)
        check_backend(distributed.get_backend_config(), get_device())
        stages = divide(network, self.cfg)
        check_stages(network, stages)
        layout = Layout.of(len(stages), self.world_size)
        dist_cfg = (self.cfg.get('env_cfg') or {}).get('dist_cfg') or {}
        timeout = dist_cfg.get('timeout', _TIMEOUT_SECONDS)
        self.processes = processes = Processes(layout, self.rank, timeout)
        self._heartbeat = Heartbeat(self._process_names(), self.rank)
        #: The images of this process, see `infopro_seg.engine.data_share`.
        self.data_share = DataShare(processes.replica, layout.num_replicas)
        self._builds_training_data = False
        self._stages = {
            name: next(i for i, stage in enumerate(stages) if index in stage)
            for name, index in owners_of(network).items()
        }
        self._own_names = {n for n, s in self._stages.items() if s == processes.stage}
        self._foreign = [
            parameter
            for name, parameter in network.named_parameters()
            if parameter.requires_grad and name not in self._own_names
        ]
        before = after = None
        if processes.stage > 0:
            before = processes.link(processes.stage - 1, QUEUE * _MESSAGES)
        if not processes.is_last_stage:
            after = processes.link(processes.stage + 1, QUEUE * _MESSAGES)
        #: What this process trains.
        self.stage = PipelineStage(stages[processes.stage], before, after)
        network.stage = self.stage
        self._tell(network, stages)
        for parameter in self._foreign:
            parameter.requires_grad_(False)
        if self.data_share.count == 1:
            return revert_sync_batchnorm(model.to(get_device()))
        wrapper = {
            'type': 'MMDistributedDataParallel',
            'broadcast_buffers': False,
            'find_unused_parameters': True,
            **(model_wrapper_cfg or {}),
            'process_group': processes.stage_group,
        }
        wrapped = super().wrap_model(wrapper, model)
        for module in wrapped.modules():
            if isinstance(module, nn.SyncBatchNorm):
                module.process_group = processes.stage_group
        return wrapped

    def _tell(self, model: InfoProEncoderDecoder, stages: Sequence[range]) -> None:
        """Log which process is which: messages of the launcher name processes."""
        for index, modules in enumerate(stages):
            ranks = ', '.join(map(str, self.processes.layout.ranks_of_stage(index)))
            names = ', '.join(str(model.local_modules[i]) for i in modules)
            self.logger.info(f'stage {index} (process {ranks}): {names}')

    def build_optim_wrapper(self, optim_wrapper: Any) -> OptimWrapper:
        """Build the optimizer for all parameters, as a single process does.

        Its groups, and so the checkpoint, are those of a single process. Parameters
        of other stages never get a gradient.

        Args:
            optim_wrapper: As in Runner.
        """
        for parameter in self._foreign:
            parameter.requires_grad_(True)
        try:
            return super().build_optim_wrapper(optim_wrapper)
        finally:
            for parameter in self._foreign:
                parameter.requires_grad_(False)

    def scale_lr(self, optim_wrapper: Any, auto_scale_lr: dict | None = None) -> None:
        """Scale the learning rate by the number of images per step.

        Args:
            optim_wrapper: As in Runner.
            auto_scale_lr: As in Runner.
        """
        num_processes = self.world_size
        self._world_size: int = self.data_share.count
        super().scale_lr(optim_wrapper, auto_scale_lr)
        self._world_size = num_processes

    def build_train_loop(self, loop: Any) -> BaseLoop:
        """Build the loop; its data are the share of this process.

        Args:
            loop: As in Runner.
        """
        self._builds_training_data = True
        try:
            return super().build_train_loop(loop)
        finally:
            self._builds_training_data = False

    # A method of the class there, but the loops call it on the runner.
    def build_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader:
        """Build a data loader; see Runner."""
        loader = Runner.build_dataloader(*args, **kwargs)
        if self._builds_training_data:
            let_share(loader, self.data_share)
        return loader

    def train(self) -> nn.Module:
        """Train, and leave every process with the weights of all stages."""
        processes = self.processes
        if processes.is_last_stage:
            stages = range(processes.layout.num_stages - 1)
        else:
            stages = range(processes.layout.num_stages - 1, processes.layout.num_stages)
        #: For checkpoints and the log: from all other stages, or to the last.
        self._archive = [processes.cpu_link(stage) for stage in stages]
        self.register_hook(_ShareWeightsHook())
        try:
            model = super().train()
        except RuntimeError as error:
            if not any(sign in str(error) for sign in _SIGNS_OF_LOSS):
                raise
            names = self._process_names().items()
            others = ', '.join(name for rank, name in names if rank != self.rank)
            raise LostStageError(
                f'the connection to another process is lost: {others} has stopped. Its '
                'own message says why.'
            ) from error
        self._heartbeat.stop()
        return model

    def _process_names(self) -> dict[int, str]:
        return {r: self.processes.layout.name(r) for r in range(self.world_size)}

    def share_weights(self) -> None:
        """Bring the weights of all stages up to date; all processes must call it."""
        processes = self.processes
        for model in self._models():
            share(model, self._stages, processes.sources(), processes.replica_group)

    def gather(self, content: Any) -> list[Any]:
        """Bring something from every stage to the last; all processes must call it.

        Args:
            content: Any object, with its tensors on the CPU.

        Returns:
            In the last stage, that of each stage in order; elsewhere nothing.
        """
        if not self.processes.is_last_stage:
            self._archive[0].send(content)
            return []
        return [*(link.receive() for link in self._archive), content]

    def finish(self) -> None:
        """Wait until all that was sent has arrived."""
        self.stage.finish()
        for link in self._archive:
            link.wait()

    def resume(self, *args: Any, **kwargs: Any) -> None:
        """Resume as in Runner, with the optimizer's state of this stage alone.

        Args:
            args: As in Runner.
            kwargs: As in Runner.
        """
        super().resume(*args, **kwargs)
        self._forget_others()

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Write the checkpoint of all stages; all processes must call it.

        The others go on while the file is written.

        Args:
            args: As in Runner.
            kwargs: As in Runner.
        """
        if self.processes.replica > 0:
            return
        if not self.processes.is_last_stage:
            own = {n: p for n, p in self._parameters().items() if n in self._own_names}
            weights = taken(self._models(), self._own_names)
            self.gather((weights, optimizer_state(self.optim_wrapper.optimizer, own)))
            return
        with self._states_of_others():
            super().save_checkpoint(*args, **kwargs)

    @contextmanager
    def _states_of_others(self) -> Iterator[None]:
        parameters, state = self._parameters(), self.optim_wrapper.optimizer.state
        for weights, states in self.gather(None)[:-1]:
            put_back(self._models(), weights)
            state.update({parameters[name]: values for name, values in states.items()})
        # In the order of a single process.
        ordered = {p: state[p] for p in parameters.values() if p in state}
        state.clear()
        state.update(ordered)
        yield
        self._forget_others()

    def _forget_others(self) -> None:
        for parameter in self._foreign:
            self.optim_wrapper.optimizer.state.pop(parameter, None)

    def _models(self) -> list[nn.Module]:
        """The network, and its averages over time."""
        averages = [
            hook.ema_model.module
            for hook in self.hooks
            if isinstance(hook, EMAHook) and hasattr(hook, 'ema_model')
        ]
        return [local_model_of(self.model, self), *averages]

    def _parameters(self) -> dict[str, nn.Parameter]:
        return dict(local_model_of(self.model, self).named_parameters())


class _ShareWeightsHook(Hook):
    """Gives every process the weights of all stages, where they are used."""

    priority = 'VERY_HIGH'

    def before_val(self, runner: Any) -> None:
        runner.share_weights()

    def after_train(self, runner: Any) -> None:
        runner.finish()
        runner.share_weights()
