"""What each module of a partition consists of, for tables and plots. Pure numbers."""

from ...settings.plan import PlannedModule
from ...settings.recompute_mode import DECODE_HEAD
from .costs import Chain, Partition
from .local_modules import base_bytes
from .memory import tail_step
from .segments import base_of_segment, repeated_flops
from .totals import module_peaks, module_steps, total_flops


def described_modules(chain: Chain, partition: Partition) -> tuple[PlannedModule, ...]:
    """One description per module; shares are those of end-to-end training."""
    whole = chain.whole
    whole_peak = module_peaks(chain, whole)[0]
    whole_flops = total_flops(chain, whole)
    return tuple(
        _described(chain, partition, i, peak, whole_peak, whole_flops)
        for i, peak in enumerate(module_peaks(chain, partition))
    )


def spelled_recompute(chain: Chain, partition: Partition) -> tuple[str, ...]:
    """What ``recompute=[...]`` asks for, to recompute as a partition says."""
    modes = [(chain.units[i].name, m) for i, m in sorted(partition.recompute.items())]
    modes.append((DECODE_HEAD, partition.tail_mode))
    return tuple(mode.spelled(name) for name, mode in modes if mode)


def _described(
    chain: Chain,
    partition: Partition,
    index: int,
    peak: int,
    whole_peak: int,
    whole_flops: int,
) -> PlannedModule:
    chain = chain.of(partition)
    start, end = partition.starts[index], partition.ends[index]
    units = chain.units[start:end]
    is_last = index == len(partition.ends) - 1
    recomputed = [i for i in range(start, end) if i in partition.recompute]
    extra = sum(
        chain.units[i].passes.recompute_flops(partition.mode(i)) for i in recomputed
    )
    if is_last:
        head = tail_step(chain, start, partition.tail_mode)
        others = sum(unit.parameter_bytes for unit in chain.units)
        tail_bytes, head_bytes = max(0, chain.parameter_bytes - others), 0
        extra += chain.tail.recompute_flops(partition.tail_mode)
        heads = [head]
    elif partition.is_exact:
        tail_bytes, head_bytes, heads = 0, 0, []
        extra += repeated_flops(chain, end, start)
    else:
        head = chain.heads[end - 1].step
        tail_bytes, head_bytes = 0, chain.heads[end - 1].parameter_bytes
        extra += head.flops
        heads = [head]
    if partition.is_exact:
        readers = chain.auxiliaries if is_last else ()
        alive_bytes = base_of_segment(chain, partition, index)
    else:
        readers = tuple(chain.attached(start, end))
        alive_bytes = sum(base_bytes(chain, start, partition.heads))
    heads += [reader.step for reader in readers]
    return PlannedModule(
        name=f'local_{index}',
        units=(units[0].name, units[-1].name) if units else (),
        num_units=len(units),
        parameter_bytes=sum(unit.parameter_bytes for unit in units) + tail_bytes,
        head_parameter_bytes=head_bytes,
        start_bytes=alive_bytes,
        activation_bytes=sum(
            step.kept for step in module_steps(chain, partition, index)
        ),
        head_bytes=sum(step.kept for step in heads),
        peak_bytes=peak,
        share=peak / whole_peak,
        recompute=tuple(
            partition.mode(i).spelled(chain.units[i].name) for i in recomputed
        ),
        extra_flops=extra / whole_flops,
    )
