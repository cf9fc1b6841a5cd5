"""From the ``local`` setting of a config to splits and recompute."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope

from .plan import Plan
from .sizes import parse_bytes

_CUTS = ('plan', 'gpu_memory', 'num_modules')


def resolve(
    model: Mapping[str, Any],
    *,
    num_modules: int | None = None,
    gpu_memory: str | float | None = None,
    plan: str | Path | Plan | None = None,
    batch_size: int | None = None,
    crop_size: tuple[int, int] | None = None,
    optim_wrapper: Mapping[str, Any] | None = None,
    amp_dtype: str | None = None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The splits and recompute settings that a config asks the planner for.

    A plan is only read. For the others the network is measured, in seconds the first
    time and from a cache after that.

    Args:
        model: Config of the segmentor, ``local`` included: its heads, weights and
            ``lean_loss`` count, its cuts do not.
        num_modules: Even modules in memory, without recompute.
        gpu_memory: What adds least work among all that fits, such as ``'11GiB'``.
        plan: A plan file, or a plan.
        batch_size: Images a step and GPU; needed for ``gpu_memory``. Default: 2.
        crop_size: (height, width) in pixels. Default: of the data preprocessor.
        optim_wrapper: As in the config of a run. Default: SGD with momentum.
        amp_dtype: ``float16``, ``bfloat16`` or None.

    Returns:
        ``splits`` and ``recompute``, as ``local`` takes them.

    Raises:
        ValueError: if not exactly one of the three is given, if a value is wrong, if
            a size is missing, or if nothing fits; with the smallest possible peak.
        FileNotFoundError: if there is no such plan file.
    """
    given = {'num_modules': num_modules, 'gpu_memory': gpu_memory, 'plan': plan}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise ValueError(
            f'give exactly one of {", ".join(given)}; given: '
            f'{" and ".join(named) or "none"}.'
        )
    if plan is not None:
        plan = plan if isinstance(plan, Plan) else Plan.load(plan)
        return plan.splits, plan.recompute
    if gpu_memory is not None and batch_size is None:
        raise ValueError(
            f'gpu_memory={gpu_memory!r} needs batch_size, the images a step and GPU.'
        )
    # Measuring builds models, and models may ask for this function.
    from .make import RESERVE_BYTES, Setting, make_plan
    from .optimizers import SGD_MOMENTUM
    from .sizes import gib

    setting = Setting(
        model=model,
        batch_size=batch_size or 2,
        crop_size=crop_size or default_crop(model),
        optim_wrapper=optim_wrapper or SGD_MOMENTUM,
        amp_dtype=amp_dtype,
    )
    limit = None if gpu_memory is None else parse_bytes(gpu_memory)
    made = make_plan(
        setting, num_modules=num_modules, gpu_memory=limit, verify=limit is not None
    )
    if made.fits is False:
        raise ValueError(
            f'nothing fits in gpu_memory={gpu_memory!r} with batch_size='
            f'{setting.batch_size} and crops of {setting.crop_size}: the smallest '
            f'possible peak is {gib(made.smallest_peak_bytes)} and '
            f'{gib(RESERVE_BYTES)} are set aside. Use a smaller batch or crop, or '
            'local=dict(lean_loss=True).'
        )
    return made.splits, made.recompute


def settle_cuts(cfg: Config) -> None:
    """Turn ``local.plan``, ``gpu_memory`` or ``num_modules`` into splits.

    The config that a run leaves in its work dir then says all by itself. Even modules
    are cut for two images of the config's crop in float32, whatever the batch and the
    precision of this run: it can be resumed on another number of GPUs.

    Args:
        cfg: Config of a run; changed in place, untouched without these settings.

    Raises:
        FileNotFoundError: if the plan does not exist.
        ValueError: if nothing fits, if the plan is none, or if the network cannot be
            cut into so many modules.
    """
    local = (cfg.get('model') or {}).get('local') or {}
    asked = {key: local[key] for key in _CUTS if local.get(key) is not None}
    if not asked or local.get('splits') is not None:
        return
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    if 'num_modules' in asked:
        splits, _ = resolve(cfg.model, **asked)
    else:
        wrapper = cfg.optim_wrapper
        dtype = wrapper.get('dtype') or 'float16'
        splits, recompute = resolve(
            cfg.model,
            **asked,
            batch_size=cfg.train_dataloader.batch_size,
            optim_wrapper=wrapper,
            amp_dtype=dtype if wrapper.type == 'AmpOptimWrapper' else None,
        )
        local.recompute = list(recompute)
    local.update(dict.fromkeys(asked), splits=list(splits))
    print(f'planned: splits={local.splits} recompute={local.get("recompute")}')


def default_crop(model: Mapping[str, Any]) -> tuple[int, int]:
    """The crop size of a model's data preprocessor.

    Raises:
        ValueError: if it has none.
    """
    size = (model.get('data_preprocessor') or {}).get('size')
    if size is None:
        raise ValueError(
            'the crop size is not known: set data_preprocessor=dict(size=(height, '
            'width)), or give crop_size.'
        )
    height, width = size
    return height, width
