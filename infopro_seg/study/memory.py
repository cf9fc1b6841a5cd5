"""Predicted memory of a training step of a run, counted once for all its seeds."""

import copy
import json
import sys
from typing import Any

from mmengine.config import Config, ConfigDict
from mmseg.registry import MODELS

from ..checkpoints.files import write_whole
from ..models.weightless import WithoutStorage, undisturbed_randomness
from ..planner.from_config import setting_of_run
from ..settings.config import divide_batch
from .job import Job, Places, digest_of, method_config


def predicted_peak_bytes(job: Job, places: Places) -> int | None:
    """Peak of a training step in bytes, counted on fake tensors.

    Where only some steps are end-to-end, it is that of the kind of step that needs
    more. None, and a line on stderr, if a step cannot be counted.
    """
    path = places.out / 'memory.json'
    known = json.loads(path.read_text()) if path.exists() else {}
    cfg = method_config(job.row)
    key = digest_of([cfg.model.to_dict(), cfg.get('train_dataloader')])
    if key not in known:
        try:
            known[key] = _peak(cfg)
        except Exception as error:  # a network may do anything
            print(
                f'{job.row.name}: its memory could not be predicted: {error}',
                file=sys.stderr,
            )
            known[key] = None
        write_whole(json.dumps(known).encode(), path)
    return known[key]


def _peak(cfg: Config) -> int:
    divide_batch(cfg, 1)
    setting = setting_of_run(cfg)
    model = copy.deepcopy(dict(setting.model))
    model['pretrained'] = None
    with undisturbed_randomness(), WithoutStorage():
        network: Any = MODELS.build(ConfigDict(model))
    peaks = [setting.tracked_step_of(network).peak_bytes]
    if network.end_to_end_every not in (None, 1):
        network.is_end_to_end = True
        peaks.append(setting.tracked_step_of(network).peak_bytes)
    return max(peaks)
