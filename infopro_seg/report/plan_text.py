"""A plan as text."""

from collections.abc import Mapping, Sequence

from ..planner.limits import Fit
from ..settings.plan import Plan, PlannedModule
from ..settings.sizes import gib
from .measured import Measured, price, sources
from .tables import text_table

_HEADER = (
    'module',
    'units',
    'parameters (M)',
    'activations (GiB)',
    'head (GiB)',
    'peak (GiB)',
    'share (%)',
    'extra FLOPs (%)',
)


def plan_report(plan: Plan) -> str:
    """The modules of a plan and what it is to be compared with."""
    rows = [_HEADER, *(_row(module, module.name) for module in plan.modules)]
    lines = [text_table(rows, left=2), '']
    names = f'splits: {", ".join(plan.splits) or "none (end-to-end)"}'
    if plan.end_to_end_every == 1:
        lines.append(
            'exact end-to-end training (end_to_end_every=1): the modules are segments, '
            'which run again in backward'
        )
    elif plan.end_to_end_every is not None:
        lines.append(
            f'every {plan.end_to_end_every}th step is exact end-to-end training; the '
            'modules above are those of the local steps'
        )
    lines += [names, f'recompute: {_listed(plan.recompute)}', '']
    lines.append(text_table(_comparison(plan)))
    lines.append('')
    lines += _verdict(plan)
    lines += ['assumed:', *(f'  - {sentence}' for sentence in plan.assumptions)]
    return '\n'.join(lines)


def dial_report(
    plans: Mapping[str, Plan], chosen: Plan, prices: Sequence[Measured] = ()
) -> str:
    """Plans side by side, and which of them is chosen.

    Args:
        plans: By what they are.
        chosen: One of them, or another one.
        prices: What local modules with these heads cost in accuracy.
    """
    rows: list[tuple[str, ...]] = [
        (
            'plan',
            'modules',
            'recomputed',
            'peak (GiB)',
            'fits',
            'FLOPs (end-to-end: 1)',
            'accuracy',
        )
    ]
    if _decision(chosen) not in map(_decision, plans.values()):
        plans = {**plans, 'this plan': chosen}
    for name, plan in plans.items():
        is_chosen = _decision(plan) == _decision(chosen)
        num_modules = len(plan.splits) + 1
        accuracy = price(prices, num_modules, plan.end_to_end_every)
        if plan.end_to_end_every == 1 or not plan.splits:
            accuracy = 'that of end-to-end'
        rows.append(
            (
                f'{name}{" (chosen)" if is_chosen else ""}',
                str(num_modules),
                str(len(plan.recompute)),
                f'{plan.predicted_peak_bytes / 2**30:.2f}',
                'yes' if plan.fits else 'no',
                f'{plan.flops_ratio:.3f}',
                accuracy,
            )
        )
    table = text_table(rows)
    if not prices:
        return table
    return (
        f'{table}\naccuracy: difference to end-to-end training with its 95% interval, '
        f'in\n{sources(prices)}'
    )


def lean_heads_line(plan: Plan, lean: Plan | None) -> str:
    """What smaller local heads would change; empty if they are lean already."""
    if lean is None:
        return ''
    return (
        'with smaller local heads, which train differently (--local head=lean): '
        f'{len(lean.splits) + 1} modules, {len(lean.recompute)} recomputed, '
        f'{gib(lean.predicted_peak_bytes)}, {lean.flops_ratio:.3f} times the FLOPs '
        f'of end-to-end (this plan: {gib(plan.predicted_peak_bytes)}, '
        f'{plan.flops_ratio:.3f}).\n'
    )


def _decision(plan: Plan) -> tuple:
    return plan.splits, plan.recompute, plan.end_to_end_every


def fits_report(fits: Sequence[Fit], reserve: int) -> str:
    """What common GPUs can do."""
    rows: list[tuple[str, ...]] = [
        (
            'GPU (GiB)',
            'end-to-end',
            '+ checkpointing',
            'exact segments',
            'FLOPs',
            'local modules',
            'FLOPs',
        )
    ]
    for fit in fits:
        plans: list[str] = []
        for plan in (fit.exact, fit.local):
            if plan is None:
                plans += ['none fits', '']
            else:
                plans += [str(len(plan.splits) + 1), f'{plan.flops_ratio:.3f}']
        fitting = ('fits' if flag else 'no' for flag in fit[1:3])
        rows.append((str(fit.card_gib), *fitting, *plans))
    return (
        f'what would fit ({gib(reserve)} of each GPU kept as reserve; FLOPs as a '
        'multiple of those of end-to-end training):\n' + text_table(rows)
    )


def _row(module: PlannedModule, name: str) -> tuple[str, ...]:
    units = ' ... '.join(dict.fromkeys(module.units)) or 'decode head'
    if module.recompute:
        units += f' ({len(module.recompute)} recomputed)'
    weights = module.parameter_bytes + module.head_parameter_bytes
    return (
        name,
        units,
        f'{weights / 4e6:.2f}',
        f'{module.activation_bytes / 2**30:.2f}',
        f'{module.head_bytes / 2**30:.2f}',
        f'{module.peak_bytes / 2**30:.2f}',
        f'{100 * module.share:.1f}',
        f'{100 * module.extra_flops:.1f}',
    )


def _comparison(plan: Plan) -> list[tuple[str, ...]]:
    whole = plan.end_to_end_peak_bytes
    rows: list[tuple[str, ...]] = [('training', 'peak (GiB)', 'of end-to-end (%)')]
    for name, peak in (
        ('end-to-end', whole),
        ('end-to-end + checkpointing', plan.checkpointing_peak_bytes),
        ('this plan', plan.predicted_peak_bytes),
        ('smallest possible', plan.smallest_peak_bytes),
    ):
        rows.append((name, f'{peak / 2**30:.2f}', f'{100 * peak / whole:.1f}'))
    return rows


def _verdict(plan: Plan) -> list[str]:
    height, width = plan.crop_size
    added = 'local heads and recompute add'
    if plan.end_to_end_every == 1:
        added = 'what runs again adds'
    lines = [
        f'{plan.batch_size} images of {height}x{width}, '
        f'{plan.amp_dtype or "float32"}: {added} {100 * plan.flops_overhead:.1f}% '
        f'FLOPs; {plan.flops_ratio:.3f} times end-to-end in all.'
    ]
    most = max((module.peak_bytes for module in plan.modules), default=0)
    is_above = 0 < most < plan.predicted_peak_bytes
    if is_above and plan.end_to_end_every not in (None, 1):
        lines.append(
            'the peak of this plan is above that of every module: an exact step, or '
            "the optimizer's step, needs most."
        )
    elif is_above:
        lines.append(
            "the peak of this plan is above that of every module: the optimizer's step "
            'needs most.'
        )
    if plan.tracked_peak_bytes is not None:
        lines.append(
            f'checked: a step of this plan on fake tensors needs '
            f'{gib(plan.tracked_peak_bytes)}, predicted were '
            f'{gib(plan.predicted_peak_bytes)}.'
        )
    if plan.gpu_memory_bytes is not None:
        budget = plan.gpu_memory_bytes - plan.reserve_bytes
        lines.append(
            f'{"fits" if plan.fits else "DOES NOT FIT"}: of '
            f'{gib(plan.gpu_memory_bytes)}, {gib(plan.reserve_bytes)} are the '
            f'reserve and {gib(max(0, budget))} the budget of the model.'
        )
        if not plan.fits:
            lines.append(
                f'the smallest possible peak is {gib(plan.smallest_peak_bytes)}: use '
                'a smaller batch or crop (--max-batch and --max-crop find the '
                'largest), or --amp.'
            )
    return lines


def _listed(names: Sequence[str]) -> str:
    return ', '.join(names) or 'nothing'
