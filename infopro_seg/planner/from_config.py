"""From a config file to what the planner measures."""

from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope

from ..config import divide_batch, read_config
from ..localize import localize
from .local_settings import default_crop
from .make import Setting


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
        batch_size: Images a step and GPU. Default: the config's.
        crop_size: (height, width) in pixels. Default: of its data preprocessor.
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
    init_default_scope('mmseg')
    model = cfg.model.to_dict()
    wrapper = cfg.get('optim_wrapper') or Config({})
    if amp_dtype is None and wrapper.get('type') == 'AmpOptimWrapper':
        amp_dtype = wrapper.get('dtype') or 'float16'
    settings = {'optim_wrapper': wrapper.to_dict()} if 'optimizer' in wrapper else {}
    height, width = crop_size or default_crop(model)
    return Setting(
        model=model,
        batch_size=batch_size or cfg.train_dataloader.batch_size,
        crop_size=(height, width),
        amp_dtype=amp_dtype,
        **settings,
    )
