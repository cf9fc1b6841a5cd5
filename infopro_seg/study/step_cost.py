"""Memory and work of a training step of a run, counted once for all its seeds."""

import copy
import json
import sys
from typing import Any, NamedTuple

from mmengine.config import Config, ConfigDict
from mmseg.registry import MODELS

from ..checkpoints.files import write_whole
from ..models.weightless import WithoutStorage, undisturbed_randomness
from ..planner.from_config import setting_of_run
from ..settings.config import divide_batch
from .job import Job, Places, digest_of, method_config


class StepCost(NamedTuple):
    """What a training step costs, counted on fake tensors.

    Args:
        peak_bytes: Most bytes alive. Where only some steps are end-to-end, that of the
            kind of step that needs more; where gradients are accumulated, with all of
            them alive from the start.
        flops: Forward, backward and recompute, 2 a multiply-add; of such steps their
            mean.
    """

    peak_bytes: int
    flops: int


def step_cost(job: Job, places: Places) -> StepCost | None:
    """The cost of a step of a run; None, and a line on stderr, if it is not known."""
    path = places.out / 'step_costs.json'
    known = json.loads(path.read_text()) if path.exists() else {}
    cfg = method_config(job.row)
    divide_batch(cfg, 1)
    step = cfg.model.to_dict(), cfg.get('train_dataloader'), cfg.get('optim_wrapper')
    key = digest_of(step)
    if known.get(key) is None:
        try:
            known[key] = _counted(cfg)
        except Exception as error:  # a network may do anything
            print(
                f'{job.row.name}: a step of it could not be counted: {error}',
                file=sys.stderr,
            )
            return None
        write_whole(json.dumps(known).encode(), path)
    return StepCost(*known[key])


def _counted(cfg: Config) -> StepCost:
    setting = setting_of_run(cfg)
    model = copy.deepcopy(dict(setting.model))
    model['pretrained'] = None
    with undisturbed_randomness(), WithoutStorage():
        network: Any = MODELS.build(ConfigDict(model))
    step, period = setting.tracked_step_of(network), network.end_to_end_every
    held = 0
    if cfg.optim_wrapper.get('accumulative_counts', 1) > 1:
        weights = [p for p in network.parameters() if p.requires_grad]
        held = sum(weight.numel() * weight.element_size() for weight in weights)
    if period in (None, 1):
        return StepCost(step.peak_bytes + held, step.flops)
    network.is_end_to_end = True
    exact = setting.tracked_step_of(network)
    return StepCost(
        max(step.peak_bytes, exact.peak_bytes) + held,
        ((period - 1) * step.flops + exact.flops) // period,
    )
