"""Chains of small integer costs, and every partition of them."""

import dataclasses
import itertools

from hypothesis import strategies as st

from infopro_seg.planner.search.costs import (
    AuxiliaryCost,
    Chain,
    HeadCost,
    Output,
    Partition,
    Pass,
    Skip,
    UnitCost,
    Variants,
)
from infopro_seg.settings.recompute_mode import RecomputeMode

_SMALL = st.integers(0, 6)
_NOTHING, _WHOLE, _ = RecomputeMode
CHOICES = {'never': [_NOTHING], 'auto': list(RecomputeMode), 'always': [_WHOLE]}


def passes(*, casts=False, freed=False):
    """Any pass; it may free some of its input."""
    return st.builds(
        Pass,
        forward_peak=st.integers(0, 18),
        kept=st.integers(-2 if freed else 0, 9),
        backward_peak=st.integers(-3, 12),
        released=_SMALL,
        input_held=_SMALL,
        both_held=st.integers(6, 9),
        grad_held=_SMALL,
        all_held=st.integers(6, 9),
        keeps_output=st.booleans(),
        frees_skips=st.integers(0, 3) if freed else st.just(0),
        frees_input=st.integers(0, 3) if freed else st.just(0),
        grads=_SMALL,
        casts=_SMALL if casts else st.just(0),
        cache=st.just(0),
        flops=st.integers(0, 9),
        forward_flops=st.integers(0, 3),
    )


@st.composite
def variants(draw, num_maps=1, **kwargs):
    """The passes of a piece that reads so many maps."""
    plain = draw(passes(**kwargs))
    # Gradients and weight copies are the same however a piece is run.
    same = {'grads': plain.grads, 'casts': plain.casts}
    exists = [True, *(draw(st.booleans()) for _ in range(2))]

    def steps():
        caches = (0, plain.casts, 0)
        return tuple(
            draw(passes(**kwargs))._replace(**same, cache=cache) if there else None
            for there, cache in zip(exists, caches, strict=True)
        )

    between = tuple(steps() for _ in range(num_maps - 1))
    return Variants((plain, *steps()[1:]), steps(), between)


@st.composite
def chains(draw, *, min_units=1, max_units=5, max_state=0, casts=True):
    """A chain; ``max_state`` bounds the weights of its local heads."""
    num_units = draw(st.integers(min_units, max_units))
    num_frozen = draw(st.sampled_from([0, 0, 0, 1, 2]))
    readers = {
        i: draw(st.integers(i + 1, num_units - 1))
        for i in range(num_units - 1)
        if draw(st.booleans())
    }
    units = tuple(
        UnitCost(
            name=f'unit{i}',
            passes=draw(
                variants(1 + [*readers.values()].count(i), casts=casts, freed=True)
            ),
            parameter_bytes=draw(_SMALL),
            flow_bytes=draw(_SMALL),
            is_trainable=i >= min(num_frozen, num_units - 1),
            writes_input=draw(st.sampled_from([False, False, False, True])),
        )
        for i in range(num_units)
    )
    outputs = tuple(
        Output(i, units[i].flow_bytes, True)
        if draw(st.booleans())
        else Output(i, draw(_SMALL), False)
        for i in range(num_units)
        if draw(st.booleans()) or i == num_units - 1
    )
    indices = st.lists(
        st.integers(0, len(outputs) - 1), min_size=1, max_size=2, unique=True
    ).map(tuple)
    skips = tuple(
        Skip(i, reader, units[i].flow_bytes, draw(_SMALL))
        for i, reader in readers.items()
    )
    tail_reads = draw(indices)
    state = st.integers(0, max_state)
    heads = [
        HeadCost(draw(passes(casts=casts)), draw(state) if max_state else 0)
        for _ in units
    ]
    if not max_state:
        # Gradients of local heads are state, too.
        heads = [h._replace(step=h.step._replace(grads=0, casts=0)) for h in heads]
    chain = Chain(
        units=units,
        heads=tuple(heads),
        tail=draw(variants(len(tail_reads), casts=casts)),
        tail_reads=tail_reads,
        auxiliaries=tuple(
            AuxiliaryCost(draw(passes(casts=casts)), draw(indices))
            for _ in range(draw(st.integers(0, 2)))
        ),
        outputs=outputs,
        skips=skips,
        start_bytes=draw(st.integers(0, 20)),
        parameter_bytes=sum(unit.parameter_bytes for unit in units),
        optimizer_factor=draw(st.sampled_from([0.0, 1.0, 2.0])),
    )
    if draw(st.booleans()):
        return chain
    return dataclasses.replace(
        chain,
        end_to_end=dataclasses.replace(
            chain,
            tail=draw(variants(len(tail_reads), casts=casts)),
            auxiliaries=tuple(
                reader._replace(step=draw(passes(casts=casts)))
                for reader in chain.auxiliaries
            ),
        ),
    )


def all_exact_partitions(chain, recompute='auto', num_modules=None):
    """Every partition into segments that can be run again."""
    num_units = len(chain.units)
    trainable = [i for i, unit in enumerate(chain.units) if unit.is_trainable]
    places = [
        i
        for i in range(trainable[0] + 1, num_units + 1)
        if i == num_units or not chain.units[i].writes_input
    ]
    for num_cuts in range(len(places) + 1):
        if num_modules is not None and num_cuts != num_modules - 1:
            continue
        for cuts in itertools.combinations(places, num_cuts):
            for modes in itertools.product(CHOICES[recompute], repeat=num_units + 1):
                chosen = {i: mode for i, mode in enumerate(modes[:-1]) if mode}
                yield Partition((*cuts, num_units), chosen, modes[-1], is_exact=True)


def all_partitions(chain, recompute='auto', num_modules=None):
    """Every partition in which each module has something to train."""
    num_units = len(chain.units)
    choices = CHOICES[recompute]
    for num_cuts in range(num_units + 1):
        if num_modules is not None and num_cuts != num_modules - 1:
            continue
        for cuts in itertools.combinations(range(1, num_units + 1), num_cuts):
            ends = (*cuts, num_units)
            if not all(
                any(unit.is_trainable for unit in chain.units[start:end])
                or start == num_units
                for start, end in zip((0, *cuts), ends, strict=True)
            ):
                continue
            for modes in itertools.product(choices, repeat=num_units):
                chosen = {i: mode for i, mode in enumerate(modes) if mode}
                for tail in choices:
                    yield Partition(ends, chosen, tail)
