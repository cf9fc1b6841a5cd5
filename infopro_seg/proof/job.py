"""The settings of a proof, and the files of its numbers."""

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ..planner.from_config import setting_of
from ..planner.make import Setting

#: Other networks whose prediction and time are compared.
NETWORKS = (
    'mmseg::deeplabv3/deeplabv3_r50-d8_4xb2-40k_cityscapes-512x1024.py',
    'mmseg::segformer/segformer_mit-b2_8xb2-160k_ade20k-512x512.py',
    'mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py',
    'mmseg::hrnet/fcn_hr48_4xb2-40k_cityscapes-512x1024.py',
    'mmseg::convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512.py',
    'mmseg::vit/vit_vit-b16_mln_upernet_8xb2-80k_ade20k-512x512.py',
)
#: TF32 multiplies float32 numbers rounded to a 10-bit mantissa; the others are those of
#: ``--amp``.
PRECISIONS = ('float32', 'tf32', 'bfloat16', 'float16')


@dataclasses.dataclass(frozen=True)
class Job:
    """What is trained, and how often.

    Args:
        config: Config file, or ``mmseg::NAME``.
        device: ``cuda`` or ``cpu``.
        batch_size: Images per step.
        crop_size: (height, width) in pixels.
        num_modules: K of the local methods.
        cards: Memory in GiB of the GPUs that plans are made for.
        steps: Timed steps of each method.
        warmup: Untimed steps of each method before them.
        seed: Seed of weights, images and labels.
        networks: Configs of other networks, with batch and crop of their own.
        camvid: Folder of CamVid; None skips its part.
        camvid_crop: (height, width) of its crops in pixels; by default whole images.
        iterations: Iterations of each CamVid run.
        seeds: Seeds of the CamVid runs.
        weights: ImageNet weights of MobileNetV2; None trains from scratch.
    """

    config: str
    device: str = 'cuda'
    batch_size: int = 4
    crop_size: tuple[int, int] = (512, 1024)
    num_modules: tuple[int, ...] = (2, 4, 6, 8)
    cards: tuple[float, ...] = (8, 11, 24)
    steps: int = 10
    warmup: int = 3
    seed: int = 0
    networks: tuple[str, ...] = NETWORKS
    camvid: str | None = None
    camvid_crop: tuple[int, int] = (360, 480)
    iterations: int = 4000
    seeds: tuple[int, ...] = (0, 1, 2)
    weights: str | None = None

    def setting(self, precision: str, **changes: Any) -> Setting:
        """The network, batch, crop and optimizer in one of `PRECISIONS`."""
        sizes = {'batch_size': self.batch_size, 'crop_size': self.crop_size}
        amp_dtype = precision if precision in ('bfloat16', 'float16') else None
        return setting_of(
            self.config, local={}, amp_dtype=amp_dtype, **{**sizes, **changes}
        )


class Records:
    """Numbers of one part, written to disk as they come in.

    Args:
        folder: Folder of the file.
        part: Name of the part.
    """

    def __init__(self, folder: Path, part: str):
        self.path = folder / f'{part}.json'
        self._content: dict[str, Any] = {'is_done': False, 'records': {}}
        if self.path.exists():
            self._content = json.loads(self.path.read_text(encoding='utf-8'))

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to run."""
        return self._content['is_done']

    def __contains__(self, name: str) -> bool:
        return name in self._content['records']

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._content['records'].values())

    def add(self, name: str, record: dict[str, Any]) -> None:
        """Save a record under its name."""
        self._content['records'][name] = {'name': name, **record}
        self._write()

    def finish(self, **facts: Any) -> None:
        """Mark the part as done.

        Args:
            facts: What else to save in the file.
        """
        self._content.update(facts, is_done=True)
        self._write()

    def fact(self, name: str) -> Any:
        """A fact that `finish` was given; None before that."""
        return self._content.get(name)

    def _write(self) -> None:
        # At once: a part may be stopped at any moment.
        temporary = self.path.with_suffix('.tmp')
        temporary.write_text(json.dumps(self._content, indent=1), encoding='utf-8')
        os.replace(temporary, self.path)


def set_precision(precision: str) -> None:
    """Let float32 multiplications be exact, or use TF32 for ``tf32``."""
    is_tf32 = precision == 'tf32'
    torch.backends.cuda.matmul.allow_tf32 = is_tf32
    torch.backends.cudnn.allow_tf32 = is_tf32
