"""Predicted memory of many models, end-to-end and as local modules.

Nothing is trained: the planner runs every model on fake tensors, with the crop, batch
and precision of its config.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from ..planner.from_config import setting_of
from ..planner.make import Setting
from ..planner.search.costs import Chain, Partition
from ..planner.search.decide import least_exact, most_even
from ..planner.search.totals import extra_flops, predicted_peak, total_flops
from ..settings.config import model_config, read_config
from .classify import classify_model, first_sentence

#: mmseg configs that represent all families of backbones and heads.
REPRESENTATIVES = (
    'deeplabv3/deeplabv3_r101-d8_4xb2-40k_cityscapes-512x1024.py',
    'deeplabv3plus/deeplabv3plus_r101-d8_4xb2-40k_cityscapes-512x1024.py',
    'pspnet/pspnet_r101-d8_4xb2-40k_cityscapes-512x1024.py',
    'upernet/upernet_r50_4xb2-40k_cityscapes-512x1024.py',
    'sem_fpn/fpn_r101_4xb2-80k_cityscapes-512x1024.py',
    'ocrnet/ocrnet_r101-d8_4xb2-40k_cityscapes-512x1024.py',
    'point_rend/pointrend_r50_4xb2-80k_cityscapes-512x1024.py',
    'knet/knet-s3_r50-d8_upernet_8xb2-adamw-80k_ade20k-512x512.py',
    'resnest/resnest_s101-d8_deeplabv3plus_4xb2-80k_cityscapes-512x1024.py',
    'hrnet/fcn_hr48_4xb2-40k_cityscapes-512x1024.py',
    'ocrnet/ocrnet_hr48_4xb2-40k_cityscapes-512x1024.py',
    'mobilenet_v2/mobilenet-v2-d8_deeplabv3_4xb2-80k_cityscapes-512x1024.py',
    'mobilenet_v3/mobilenet-v3-d8_lraspp_4xb4-320k_cityscapes-512x1024.py',
    'stdc/stdc2_in1k-pre_4xb12-80k_cityscapes-512x1024.py',
    'erfnet/erfnet_fcn_4xb4-160k_cityscapes-512x1024.py',
    'unet/unet-s5-d16_fcn_4xb4-160k_cityscapes-512x1024.py',
    'segformer/segformer_mit-b2_8xb1-160k_cityscapes-1024x1024.py',
    'segformer/segformer_mit-b5_8xb2-160k_ade20k-640x640.py',
    'segnext/segnext_mscan-b_1xb16-adamw-160k_ade20k-512x512.py',
    'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py',
    'twins/twins_pcpvt-s_uperhead_8xb4-160k_ade20k-512x512.py',
    'twins/twins_svt-s_fpn_fpnhead_8xb4-80k_ade20k-512x512.py',
    'vit/vit_vit-b16_mln_upernet_8xb2-160k_ade20k-512x512.py',
    'setr/setr_vit-l_pup_8xb1-80k_cityscapes-768x768.py',
    'segmenter/segmenter_vit-b_mask_8xb1-160k_ade20k-512x512.py',
    'dpt/dpt_vit-b16_8xb2-160k_ade20k-512x512.py',
    'beit/beit-base_upernet_8xb2-160k_ade20k-640x640.py',
    'convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512.py',
    'poolformer/fpn_poolformer_s12_8xb4-40k_ade20k-512x512.py',
)


#: What exact training may add to the FLOPs of a step, as a share of them. Activation
#: checkpointing of every unit adds a sixth to a third.
MOST_EXACT_WORK = 0.2


@dataclasses.dataclass(frozen=True)
class Cell:
    """A model as K local modules, or as K segments.

    Args:
        num_modules: K.
        peak_bytes: Peak memory of a training step.
        flops_overhead: FLOPs of the local heads, or of what runs again, divided by
            those of end-to-end training.
    """

    num_modules: int
    peak_bytes: int
    flops_overhead: float


@dataclasses.dataclass(frozen=True)
class Row:
    """One model, as a row of the table.

    Args:
        config: Its config.
        batch_size: Images per step and GPU.
        crop_size: (height, width) in pixels.
        amp_dtype: Type of mixed precision, or None.
        end_to_end_bytes: Peak memory of a training step of the stock model.
        checkpointing: End-to-end training with every unit recomputed.
        exact: The exact plan of the least memory for at most `MOST_EXACT_WORK`.
        cells: Local modules, one per number of them.
        prediction_error: Relative error of the predicted peak of the last cell but one,
            compared with a step on fake tensors.
        reason: Why there are no numbers; empty if there are.
        is_failure: Whether the reason is an error of this package, and not that the
            model cannot be local or cannot be built here.
    """

    config: str
    batch_size: int = 0
    crop_size: tuple[int, int] = (0, 0)
    amp_dtype: str | None = None
    end_to_end_bytes: int = 0
    checkpointing: Cell | None = None
    exact: Cell | None = None
    cells: tuple[Cell, ...] = ()
    prediction_error: float = 0.0
    reason: str = ''
    is_failure: bool = False


def measure(
    config: str,
    counts: Sequence[int],
    *,
    local: Mapping[str, Any],
    batch_size: int | None = None,
    crop_size: tuple[int, int] | None = None,
) -> Row:
    """Predict the memory of one model.

    Args:
        config: A file, or ``mmseg::NAME``.
        counts: Numbers of modules; at most as many as there are units.
        local: Settings of ``model.local`` other than the cuts. End-to-end training is
            measured without them.
        batch_size: Images per step. Default: the config's.
        crop_size: (height, width) in pixels. Default: the config's.

    Returns:
        Numbers, or the reason why there are none.
    """
    try:
        _, _, reason = classify_model(model_config(read_config(config)))
    except ImportError as error:  # custom_imports of a package that is not installed
        # mmengine appends the whole path.
        reason = first_sentence(error).partition(', the current sys.path')[0]
    if reason:
        return Row(config, reason=reason)
    sized = functools.partial(
        setting_of, config, batch_size=batch_size, crop_size=crop_size
    )
    try:
        return _measured(config, sized(), sized(local=dict(local)), counts)
    except Exception as error:  # the other models are still of interest
        reason = f'{type(error).__name__}: {first_sentence(error)}'
        return Row(config, reason=reason, is_failure=True)


def _measured(
    config: str, stock: Setting, setting: Setting, counts: Sequence[int]
) -> Row:
    whole = stock.measured()
    chain = setting.measured()
    numbers = sorted({min(count, len(chain.units)) for count in counts})
    partitions = [most_even(chain, number) for number in numbers]
    checked = partitions[max(0, len(partitions) - 2)]
    tracked = setting.tracked_peak(chain.splits(checked), ())
    return Row(
        config,
        setting.batch_size,
        setting.crop_size,
        setting.amp_dtype,
        predicted_peak(whole, whole.whole),
        checkpointing=_cell(whole, whole.checkpointed),
        exact=_cell(whole, least_exact(whole, MOST_EXACT_WORK)),
        cells=tuple(_cell(chain, partition) for partition in partitions),
        prediction_error=predicted_peak(chain, checked) / tracked - 1,
    )


def _cell(chain: Chain, partition: Partition) -> Cell:
    return Cell(
        len(partition.ends),
        predicted_peak(chain, partition),
        extra_flops(chain, partition) / total_flops(chain, chain.whole),
    )
