"""Parts that set methods side by side: torch's own ways, and other networks."""

import dataclasses
import gc
from collections.abc import Sequence
from typing import Any

import torch

from ..benchmark.facts import facts_of_run
from ..benchmark.method import (
    CHECKPOINTING,
    END_TO_END,
    LOCAL,
    LOCAL_RECOMPUTE,
    RIVALS,
    Method,
    runs_on,
)
from ..benchmark.methods import methods, takes_with_cp
from ..benchmark.steps import measure
from ..benchmark.summary import summarised
from ..planner.from_config import setting_of
from .job import Job, Records


def rivals_part(job: Job, records: Records, precision: str) -> None:
    """Each method that torch offers, in turns with end-to-end training.

    In pairs: a method that fails on a GPU (no compiler, no pinned memory left) costs no
    other method its numbers, and the next call continues after the last pair.
    """
    whole, *others = against_rivals(job, precision)
    for method in others:
        if method.name not in records:
            records.add(method.name, _taken(job, [whole, method]))
    entries: dict[str, dict[str, Any]] = {}
    for record in records:
        for entry in record.get('methods', ()):
            entries.setdefault(entry['name'], entry)
    facts = facts_of_run(job, job.setting(precision))
    facts.update(command='python tools/gpu_proof.py', precision=precision)
    # As tools/analysis/plot_benchmark.py reads it.
    records.finish(**facts, methods=list(entries.values()))


def against_rivals(job: Job, precision: str) -> list[Method]:
    """End-to-end training first; then its rivals, and local modules."""
    rivals = [kind for kind in RIVALS if runs_on(kind, job.device)]
    return methods(
        job.setting(precision),
        (END_TO_END, CHECKPOINTING, *rivals, LOCAL, LOCAL_RECOMPUTE),
        [_usual(job)],
        updates_at_once=job.device == 'cuda',
    )


def networks_part(job: Job, records: Records) -> None:
    """Prediction and time of other networks, with batch and crop of their configs."""
    for config in job.networks:
        if config not in records:
            records.add(config, _network(job, config))
    records.finish()


def _network(job: Job, config: str) -> dict[str, Any]:
    try:
        setting = setting_of(config, local={})
        setting = dataclasses.replace(setting, amp_dtype=None)
        kinds = [END_TO_END, CHECKPOINTING, LOCAL]
        if not takes_with_cp(setting.model['backbone']['type']):
            kinds.remove(CHECKPOINTING)
        on_gpu = job.device == 'cuda'
        found = methods(setting, kinds, [_usual(job)], updates_at_once=on_gpu)
    except Exception as error:  # a package that is not installed, among others
        return {'failed': _sentence(error)}
    sizes = {'batch_size': setting.batch_size, 'crop_size': setting.crop_size}
    return {**sizes, **_taken(job, found)}


def _taken(job: Job, found: Sequence[Method]) -> dict[str, Any]:
    """Steps in turns, as ``tools/benchmark.py`` takes them."""
    try:
        measured = measure(
            found, device=job.device, steps=job.steps, warmup=job.warmup, seed=job.seed
        )
    except Exception as error:  # of any kind: it is the result on this GPU
        return {'failed': _sentence(error)}
    finally:
        gc.collect()
        if job.device == 'cuda':
            torch.cuda.empty_cache()
    return {'methods': summarised(found, measured)}


def _usual(job: Job) -> int:
    return 4 if 4 in job.num_modules else job.num_modules[-1]


def _sentence(error: Exception) -> str:
    line = next(iter(str(error).strip().splitlines()), '')
    # mmengine appends all folders of sys.path.
    what = line.partition(', the current sys.path')[0]
    return f'{type(error).__name__}: {what}'
