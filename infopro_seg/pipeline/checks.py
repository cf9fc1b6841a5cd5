"""What stages that train at different times cannot do, refused before training."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import DataLoader, IterableDataset

from ..engine.data_share import DataShare
from ..models import InfoProEncoderDecoder
from ..settings.config import as_list, type_name


def check_config(cfg: Config) -> None:
    """Refuse what needs all stages before any of them may step.

    Raises:
        ValueError: if the config asks for it; says what to set instead.
    """
    wrapper = cfg.get('optim_wrapper') or {}
    if wrapper.get('clip_grad'):
        raise ValueError(
            'optim_wrapper.clip_grad takes the norm of all gradients, which no stage '
            'of a pipeline knows: remove it, and clip each module by itself with '
            "custom_hooks=[..., dict(type='ClipModuleGradHook', max_norm=...)]."
        )
    if type_name(wrapper) == 'AmpOptimWrapper' and _scales(wrapper.get('loss_scale')):
        raise ValueError(
            'optim_wrapper.loss_scale skips the step of all stages if one gradient '
            'overflows, which a pipeline cannot know in time: train in bfloat16, '
            "optim_wrapper=dict(dtype='bfloat16', loss_scale=dict(enabled=False))."
        )
    for hook in as_list(cfg.get('custom_hooks')):
        if isinstance(hook, Mapping) and hook.get('on_divergence') == 'skip':
            raise ValueError(
                f"on_divergence='skip' of {type_name(hook)} skips the step of all "
                "stages, which a pipeline cannot know in time: set 'stop'."
            )
    if (cfg.get('randomness') or {}).get('diff_rank_seed'):
        raise ValueError(
            'randomness.diff_rank_seed=True gives the stages of a pipeline different '
            'images: set it to False.'
        )
    if cfg.get('compile'):
        raise ValueError(
            'compile of the config traces one training step, and a stage of a pipeline '
            'sends and receives inside of it: remove compile.'
        )


def check_backend(backends: str, device: str) -> None:
    """Refuse a backend that cannot send from device to device.

    Args:
        backends: As `torch.distributed.get_backend_config` spells them:
            ``cpu:gloo,cuda:nccl``.
        device: Where the network is.

    Raises:
        ValueError: if maps cannot be sent from there.
    """
    needed = {'cuda': 'nccl', 'cpu': 'gloo'}.get(device)
    used = dict(pair.split(':') for pair in backends.split(','))
    if needed is not None and used.get(device) != needed:
        raise ValueError(
            f'the stages of a pipeline on {device} devices send with {needed}, which '
            f'env_cfg.dist_cfg.backend does not start (it has {backends}): set '
            f"env_cfg.dist_cfg.backend='{needed}'."
        )


def check_stages(model: InfoProEncoderDecoder, stages: Sequence[range]) -> None:
    """Refuse a stage that has nothing to train, or needs weights of another one.

    Args:
        model: The whole network.
        stages: The local modules of each stage.

    Raises:
        ValueError: if the last module of a stage is frozen, or if a local head looks
            into the next stage.
    """
    sizes = [len(stage) for stage in stages]
    for modules in stages[:-1]:
        last = model.local_modules[modules[-1]]
        is_trained = any(p.requires_grad for p in last.parameters(model.backbone))
        if not is_trained and last.index not in model.auxiliary_module.values():
            raise ValueError(
                f'the stage that ends in {last} has nothing to train there, as its '
                f'weights are frozen: give it more modules. Now local.pipeline={sizes}.'
            )
        own = {u.name for i in modules for u in model.local_modules[i].units}
        for index in modules:
            if any(unit.name not in own for unit in model.units_ahead[index]):
                raise ValueError(
                    f'look_ahead lets the local head of local_{index} look into the '
                    'next stage of the pipeline, whose weights are in another process: '
                    f'remove look_ahead, or change local.pipeline={sizes}.'
                )


def let_share(loader: DataLoader, share: DataShare) -> None:
    """Let a loader of training data draw the share of this process, in place.

    The host's samplers take the number of all processes.

    Raises:
        ValueError: if the order of the loader is not known to be that of the other
            stages.
    """
    sampler: Any = getattr(loader.batch_sampler, 'sampler', loader.sampler)
    is_known = isinstance(sampler, InfiniteSampler | DefaultSampler)
    if isinstance(loader.dataset, IterableDataset) or not is_known:
        raise ValueError(
            'the stages of a pipeline must draw the same images, which is not known of '
            f'{type(sampler).__name__} with {type(loader.dataset).__name__}: set '
            "train_dataloader.sampler=dict(type='InfiniteSampler', shuffle=True)."
        )
    sampler.rank, sampler.world_size = share.index, share.count
    if isinstance(sampler, DefaultSampler):
        num = len(sampler.dataset)
        own = num if sampler.round_up else num - share.index
        sampler.num_samples = -(-own // share.count)
        sampler.total_size = num
        if sampler.round_up:
            sampler.total_size = sampler.num_samples * share.count


def _scales(loss_scale: object) -> bool:
    return not (isinstance(loss_scale, Mapping) and loss_scale.get('enabled') is False)
