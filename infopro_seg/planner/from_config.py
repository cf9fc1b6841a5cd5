"""From a config to what the planner measures, and from its answer back to a config."""

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from ..scopes import use_scope_of
from ..settings import LocalSettings, with_cuts
from ..settings.config import (
    amp_dtype_of,
    batch_size_of,
    crop_size_of,
    divide_batch,
    model_config,
    read_config,
)
from ..settings.localize import is_local, localize
from ..settings.plan import Plan
from ..settings.sizes import gib
from .conditions import conditions, differing
from .make import RESERVE_BYTES, Setting, make_plan
from .profile.fake_step import SGD_MOMENTUM
from .profile.simulation import SimulationError
from .search.decide import ACCURACY


def setting_of(
    config: str,
    *,
    local: dict[str, Any] | None = None,
    batch_size: int | None = None,
    crop_size: tuple[int, int] | None = None,
    amp_dtype: str | None = None,
    num_gpus: int = 1,
) -> Setting:
    """What a config trains.

    Args:
        config: A file, or ``mmseg::NAME``; need not be a local one.
        local: Settings of ``model.local`` to change.
        batch_size: Images per step and GPU. Default: the config's.
        crop_size: (height, width) in pixels. Default: of the config, see
            `crop_size_of`.
        amp_dtype: ``float16`` or ``bfloat16``. Default: of the config's optimizer
            wrapper, None if it does not train in mixed precision.
        num_gpus: Divides the config's ``total_batch_size``.

    Raises:
        FileNotFoundError: if the config does not exist.
        ValueError: if its model cannot be local, or if a size is missing.
    """
    cfg = read_config(config)
    localize(cfg, local or {})
    divide_batch(cfg, num_gpus)
    setting = setting_of_run(cfg, batch_size=batch_size, crop_size=crop_size)
    if amp_dtype is None:
        return setting
    return dataclasses.replace(setting, amp_dtype=amp_dtype)


def setting_of_run(
    cfg: Config,
    *,
    batch_size: int | None = None,
    crop_size: tuple[int, int] | None = None,
) -> Setting:
    """What a config trains that has been read already; see `setting_of`."""
    use_scope_of(cfg)
    batch_size = batch_size or batch_size_of(cfg)
    crop_size = crop_size or crop_size_of(cfg)
    if batch_size is None:
        raise ValueError(
            'the batch size is not known: set train_dataloader=dict(batch_size=...), '
            'or give it (--batch-size).'
        )
    if crop_size is None:
        raise ValueError(
            'the crop size is not known: set data_preprocessor=dict(size=(height, '
            'width)), or give it (--crop-size).'
        )
    wrapper = cfg.get('optim_wrapper') or {}
    height, width = crop_size
    return Setting(
        model=model_config(cfg).to_dict(),
        batch_size=batch_size,
        crop_size=(height, width),
        optim_wrapper=_plain(wrapper) if 'optimizer' in wrapper else SGD_MOMENTUM,
        amp_dtype=amp_dtype_of(cfg),
    )


def settle_cuts(cfg: Config) -> None:
    """Turn ``local.plan`` or ``local.gpu_memory`` into splits.

    Both depend on the batch and the crop of this run. The config that a run leaves in
    its work dir then says all by itself.

    Args:
        cfg: Config of a run; changed in place, untouched without these settings.

    Raises:
        FileNotFoundError: if the plan does not exist.
        ValueError: if nothing fits, or if the plan is for another batch, crop or
            precision, or for a network, local heads or an optimizer that need less
            memory than those of this run, or is none.
    """
    model = cfg.get('model')
    if not is_local(model) or 'local' not in model:
        return
    settings = LocalSettings.parse(model.local)
    if settings.plan is not None:
        mismatch = settings.plan.mismatch(
            batch_size=batch_size_of(cfg),
            crop_size=crop_size_of(cfg),
            amp_dtype=amp_dtype_of(cfg) or 'float32',
        )
        if mismatch is not None:
            raise ValueError(mismatch)
        _require_planned_memory(cfg, settings.plan)
        if settings.plan.end_to_end_every is not None:
            model.local.end_to_end_every = settings.plan.end_to_end_every
    elif settings.gpu_memory is not None:
        plan = _plan_for_memory(cfg, settings.gpu_memory)
        local = with_cuts(model.local, plan.splits, plan.recompute)
        model.local = {**local, 'end_to_end_every': plan.end_to_end_every}
        how = 'local modules'
        if plan.end_to_end_every == 1 or not plan.splits:
            how = 'exact end-to-end training'
        elif plan.end_to_end_every is not None:
            how = f'local modules, every {plan.end_to_end_every}th step exact'
        print(
            f'planned: {how}, splits={list(plan.splits)} '
            f'recompute={list(plan.recompute)}'
        )


def _require_planned_memory(cfg: Config, plan: Plan) -> None:
    """Refuse a run that needs more memory than its plan, for whatever reason.

    It is counted only if the run is not what was planned: a step takes a moment.
    """
    if not plan.conditions or None in (batch_size_of(cfg), crop_size_of(cfg)):
        return
    setting = setting_of_run(cfg)
    given = conditions(setting.model, setting.optim_wrapper)
    others = ' and '.join(differing(plan.conditions, given))
    if not others:
        return
    try:
        needed = setting.tracked_peak(
            plan.splits, plan.recompute, period=plan.end_to_end_every
        )
    except (SimulationError, ValueError) as error:
        warnings.warn(
            f'the plan is for another {others}, and what this run needs cannot be '
            f'counted: {error}',
            stacklevel=2,
        )
        return
    if needed > plan.allowed_bytes:
        raise ValueError(
            f'the plan is for another {others}: this run needs {gib(needed)}, and the '
            f'plan has {gib(plan.allowed_bytes)} for it. Make a new plan with '
            'tools/plan.py and the settings of this run, or train with those of the '
            'plan.'
        )


def _plan_for_memory(cfg: Config, gpu_memory: int) -> Plan:
    setting = setting_of_run(cfg)
    plan = make_plan(setting, gpu_memory=gpu_memory, prefer=ACCURACY)
    if plan.fits is False:
        raise ValueError(
            f'nothing fits in gpu_memory={gib(gpu_memory)} with batch_size='
            f'{setting.batch_size} and crops of {setting.crop_size}: the smallest '
            f'possible peak is {gib(plan.smallest_peak_bytes)} and '
            f'{gib(RESERVE_BYTES)} are set aside. Use a smaller batch or crop.'
        )
    return plan


def _plain(config: Mapping) -> dict:
    return config.to_dict() if hasattr(config, 'to_dict') else dict(config)
