"""The parts of the proof, in order of importance."""

import gc
from collections.abc import Callable
from typing import Any

import torch

from ..benchmark.facts import facts_of_run
from ..benchmark.method import (
    CHECKPOINTING,
    END_TO_END,
    LOCAL,
    LOCAL_RECOMPUTE,
    Method,
)
from ..benchmark.methods import from_plan, methods, planned
from ..benchmark.steps import Contender, measure
from ..benchmark.summary import summarised
from ..planner.limits import largest_batch
from ..planner.make import RESERVE_BYTES
from .camvid import camvid_part
from .job import PRECISIONS, Job, Records, set_precision
from .sides import networks_part, rivals_part

Part = Callable[[Job, Records], None]


def parts(job: Job) -> dict[str, Part]:
    """All parts by name, the most important one first."""
    found: dict[str, Part] = {}
    precisions = PRECISIONS if job.device == 'cuda' else PRECISIONS[:1]
    for precision in precisions:
        found[f'memory-{precision}'] = _with(_memory, precision)
        found[f'time-{precision}'] = _with(_time, precision)
    if job.device == 'cuda':
        found['cards'] = _cards
    found['rivals-float32'] = _with(rivals_part, 'float32')
    found['networks'] = networks_part
    if job.device == 'cuda':
        found['rivals-bfloat16'] = _with(rivals_part, 'bfloat16')
    found['camvid'] = camvid_part
    return found


def left_out(job: Job) -> dict[str, str]:
    """Why parts cannot be run, by their names."""
    return {} if job.camvid else {'camvid': 'give --camvid DIR, the folder of CamVid'}


def compared(job: Job, precision: str) -> list[Method]:
    """What is compared: stock training, local modules, and plans for GPUs."""
    setting = job.setting(precision)
    kinds = (END_TO_END, CHECKPOINTING, LOCAL, LOCAL_RECOMPUTE)
    on_gpu = job.device == 'cuda'
    found = methods(setting, kinds, job.num_modules, updates_at_once=on_gpu)
    chain = setting.measured()
    for card in job.cards:
        budget = round(card * 2**30) - RESERVE_BYTES
        if budget <= 0:
            continue
        plan = planned(setting, chain, budget, f'plan for {card:g} GiB')
        if plan is not None and plan.num_modules > 1:
            found.append(plan)
    return found


def _with(part: Callable[[Job, Records, str], None], precision: str) -> Part:
    def run(job: Job, records: Records) -> None:
        set_precision(precision)
        part(job, records, precision)

    return run


def _memory(job: Job, records: Records, precision: str) -> None:
    """The memory of each method alone, as the allocator and the driver see it."""
    for method in compared(job, precision):
        if method.name not in records:
            predicted = {'predicted_bytes': method.predicted_peak_bytes}
            records.add(method.name, {**predicted, **_used(job, method)})
    records.finish()


def _used(job: Job, method: Method) -> dict[str, Any]:
    """Most bytes allocated, reserved and in use in the third step.

    ``in_use_bytes`` is all of the GPU's memory that is not free. It includes the CUDA
    context, the workspaces of libraries and any other processes.
    """
    contender: Contender | None = None
    try:
        contender = Contender(method, job.device, job.seed)
        for _ in range(2):
            contender.timed_step()
        if job.device != 'cuda':
            return {'allocated_bytes': contender.peak_bytes()}
        torch.cuda.empty_cache()
        allocated = contender.peak_bytes()
        free, total = torch.cuda.mem_get_info()
        return {
            'allocated_bytes': allocated,
            'reserved_bytes': torch.cuda.max_memory_reserved(),
            'in_use_bytes': total - free,
        }
    except torch.OutOfMemoryError:
        return {'is_out_of_memory': True}
    finally:
        contender = None
        gc.collect()
        if job.device == 'cuda':
            torch.cuda.empty_cache()


def _time(job: Job, records: Records, precision: str) -> None:
    """Steps of all methods in turns, as ``tools/benchmark.py`` takes them."""
    found = compared(job, precision)
    measured = measure(
        found, device=job.device, steps=job.steps, warmup=job.warmup, seed=job.seed
    )
    # As tools/analysis/plot_benchmark.py reads it.
    facts = facts_of_run(job, job.setting(precision))
    facts.update(command='python tools/gpu_proof.py', precision=precision)
    records.finish(**facts, methods=summarised(found, measured))


def _cards(job: Job, records: Records) -> None:
    """Whether the largest batch of a plan trains on a GPU, and end-to-end does not.

    The process may use no more than that GPU has. The CUDA context, which torch's limit
    does not cover, is subtracted.
    """
    set_precision('float32')
    for card in job.cards:
        for method in _largest(job, card):
            name = f'{card:g} GiB, {method.name}'
            if name not in records:
                records.add(name, _trial(job, card, method))
    records.finish()


def _trial(job: Job, card: float, method: Method) -> dict[str, Any]:
    free, total = torch.cuda.mem_get_info()
    context = total - free - torch.cuda.memory_reserved()
    allowed = (card * 2**30 - context) / total
    torch.cuda.set_per_process_memory_fraction(min(1.0, allowed))
    used = _used(job, method)
    torch.cuda.set_per_process_memory_fraction(1.0)
    return {
        'batch_size': method.setting.batch_size,
        'crop_size': method.setting.crop_size,
        'predicted_bytes': method.predicted_peak_bytes,
        'fits': 'is_out_of_memory' not in used,
    }


def _largest(job: Job, card: float) -> list[Method]:
    """The largest batch that a plan fits on a GPU: with that plan, and end-to-end."""
    plan = largest_batch(job.setting('float32'), round(card * 2**30))
    if plan is None:
        return []
    setting = job.setting('float32', batch_size=plan.batch_size)
    return [from_plan(setting, plan), *methods(setting, (END_TO_END,), ())]
