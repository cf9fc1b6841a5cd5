"""The ``local`` setting of a model: the one place that reads and rewrites it.

Segmentor, planner, tools and benchmark receive `LocalSettings`, or a rewritten setting
from `with_cuts`, `without_cuts` and `merged_local`; none of them looks into the dict.
"""

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .heads import PARTS, complete_head, look_ahead_of
from .plan import Plan
from .sizes import parse_bytes
from .splits import linear_weights

#: The ways to say where to cut; exactly one is given.
CUTS = ('splits', 'num_modules', 'plan', 'gpu_memory')
_KEYS = (
    *CUTS,
    'head',
    'weights',
    'recompute',
    'lean_loss',
    'image_range',
    'end_to_end_every',
    'deep_supervision',
    'pipeline',
    'random_streams',
)
#: Whose random numbers modules draw: one stream for all, or each its own.
RANDOM_STREAMS = ('process', 'module')
# lambda1 and lambda2 of the paper's 512x1024, batch 8 setting (Wang et al., ICLR 2021,
# released segmentation code).
_DEFAULT_WEIGHTS = {'reconstruction': (1.5, 1.5), 'segmentation': (1.0, 1.0)}


@dataclasses.dataclass(frozen=True)
class LocalSettings:
    """The ``local`` setting, checked as far as possible without a network.

    Exactly one of the first four is not None.

    Args:
        splits: Names of the last units of all modules but the last.
        num_modules: K >= 1, see `infopro_seg.models.even_modules`.
        plan: A plan of ``tools/plan.py``, read from its file.
        gpu_memory: Memory of a GPU in bytes. Only the tools, which know the batch, turn
            it into splits.
        head: Configs of both halves of a local head, see `complete_head`.
        look_ahead: How many later units the segmentation half of a local head looks
            through, see `infopro_seg.models.look_ahead`.
        weights: For both losses, the weights of the first module and of the last but
            one, see `linear_weights`.
        recompute: See `infopro_seg.models.recompute.run.resolve_recompute`.
        lean_loss: Whether heads compute their loss in chunks. None: where there is a
            wall and the loss allows it.
        image_range: (black, white) of the images before the data preprocessor's mean
            and std; None leaves it to `infopro_seg.models.image_range.known_range`.
        end_to_end_every: n if every n-th optimizer step is exact end-to-end training,
            with the modules as segments; 1 for all steps, None for none.
        deep_supervision: Whether gradients pass all walls, and those of the local heads
            with them: the control that tells the effect of walls from that of heads.
        pipeline: How many stages of local modules train at the same time, each in a
            process of its own, or how many modules each of them has. None, or a single
            process: modules train one after the other.
        random_streams: ``process``, as in stock training, or ``module``, see
            `infopro_seg.engine.RandomStreamsHook`; a pipeline needs ``module``.
    """

    splits: tuple[str, ...] | None = None
    num_modules: int | None = None
    plan: Plan | None = None
    gpu_memory: int | None = None
    head: dict[str, dict | None] = dataclasses.field(default_factory=dict)
    look_ahead: int = 0
    weights: dict[str, Any] = dataclasses.field(default_factory=dict)
    recompute: str | Sequence[str] | None = None
    lean_loss: bool | None = None
    image_range: tuple[float, float] | None = None
    end_to_end_every: int | None = None
    deep_supervision: bool = False
    pipeline: int | tuple[int, ...] | None = None
    random_streams: str = 'process'

    @classmethod
    def parse(cls, local: Mapping) -> 'LocalSettings':
        """Check a ``local`` setting.

        Args:
            local: The setting of the config; entries that are None count as absent. A
                dotted key such as ``head.segmentation.channels`` sets a nested entry.

        Raises:
            TypeError: if the setting, or an entry, is of the wrong kind.
            FileNotFoundError: if the plan does not exist.
            ValueError: if an entry is unknown or wrong, or if there is not exactly one
                way to cut.
        """
        local = _nested(local)
        _refuse_unknown('local', local, _KEYS)
        cut = _the_cut(local)
        recompute = _names('recompute', local.get('recompute'), is_single_allowed=True)
        values: dict[str, Any] = {'recompute': recompute}
        if cut == 'splits':
            values['splits'] = _names('splits', local['splits'])
        elif cut == 'num_modules':
            values['num_modules'] = _num_modules(local['num_modules'])
        elif cut == 'plan':
            values['plan'] = plan = _plan(local['plan'])
            values['recompute'] = plan.recompute
            local = {**local, 'end_to_end_every': _period_of_plan(local, plan)}
        else:
            values['gpu_memory'] = parse_bytes(local['gpu_memory'], 'local.gpu_memory')
        is_supervised = bool(_switch('deep_supervision', local.get('deep_supervision')))
        if is_supervised:
            _refuse_beside_deep_supervision(cut, local)
        pipeline = _pipeline(local.get('pipeline'))
        if pipeline is not None:
            _refuse_beside_pipeline(local)
        return cls(
            **values,
            head=complete_head(local.get('head')),
            look_ahead=look_ahead_of(local.get('head')),
            weights=_weights(local.get('weights')),
            lean_loss=_switch('lean_loss', local.get('lean_loss')),
            image_range=_range(local.get('image_range')),
            end_to_end_every=_period(local.get('end_to_end_every')),
            deep_supervision=is_supervised,
            pipeline=pipeline,
            random_streams=_random_streams(local.get('random_streams'), pipeline),
        )


def without_cuts(local: Mapping | None) -> dict[str, Any]:
    """A ``local`` setting without cuts and recompute, which a plan decides.

    Deep supervision goes as well: plans are for modules between walls, or for segments.
    """
    gone = (*CUTS, 'recompute', 'deep_supervision')
    return {k: v for k, v in _nested(local or {}).items() if k not in gone}


def without_end_to_end(local: Mapping | None) -> tuple[dict[str, Any], int | None]:
    """A ``local`` setting of local modules alone, and its ``end_to_end_every``."""
    plain = _nested(local or {})
    return plain, _period(plain.pop('end_to_end_every', None))


def with_cuts(
    local: Mapping | None,
    splits: Sequence[str],
    recompute: str | Sequence[str] | None = (),
) -> dict[str, Any]:
    """A ``local`` setting with these splits in place of any other way to cut.

    Other ways to cut are set to None, so that a config that inherits loses them, too.
    """
    earlier = _nested(local or {})
    plain = {k: v for k, v in earlier.items() if k not in CUTS}
    gone = {key: None for key in CUTS if key in earlier}
    if not isinstance(recompute, str):
        recompute = list(recompute or ())
    return {**plain, **gone, 'splits': list(splits), 'recompute': recompute}


def merged_local(earlier: Mapping | None, later: Mapping) -> dict[str, Any]:
    """One ``local`` setting over another: a later way to cut replaces the earlier one.

    Args:
        earlier: The setting of the config, or None.
        later: What is set now; may have dotted keys.

    Returns:
        The merged setting, with nested entries for dotted keys and without None.
    """
    earlier, later = _nested(earlier or {}), _nested(later)
    if any(later.get(key) is not None for key in CUTS):
        earlier = {k: v for k, v in earlier.items() if k not in CUTS}
        if later.get('plan') is not None:
            earlier.pop('recompute', None)
    merged = _merge(earlier, later)
    return {key: value for key, value in merged.items() if value is not None}


def _nested(local: Any) -> dict[str, Any]:
    """A plain copy with dotted keys spelt out."""
    if not isinstance(local, Mapping):
        raise TypeError(
            f'local={local!r} must be a dict, such as local=dict(num_modules=4).'
        )
    nested: dict[str, Any] = {}
    for key, value in local.items():
        name, _, rest = str(key).partition('.')
        if rest:
            value = _nested({rest: value})
        nested = _merge(nested, {name: value})
    return nested


def _merge(base: dict[str, Any], over: Mapping) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        before = merged.get(key)
        if key == 'head' and isinstance(before, str) and isinstance(value, Mapping):
            before = {'preset': before}
        replaces = isinstance(value, Mapping) and 'type' in value and key in PARTS
        if isinstance(before, Mapping) and isinstance(value, Mapping) and not replaces:
            value = _merge(dict(before), value)
        merged[key] = value
    return merged


def _the_cut(local: Mapping) -> str:
    given = [key for key in CUTS if local.get(key) is not None]
    if len(given) != 1:
        raise ValueError(
            f'local must say how to cut by exactly one of {", ".join(CUTS)}; given: '
            f'{" and ".join(given) or "none"}. An inherited one is removed by setting '
            'it to None.'
        )
    return given[0]


def _num_modules(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(
            f'local.num_modules={value!r} must be an integer: 1 (end-to-end), 2, 3, ...'
        )
    if value < 1:
        raise ValueError(f'local.num_modules={value} must be 1 (end-to-end) or more.')
    return value


def _names(
    key: str, value: Any, *, is_single_allowed: bool = False
) -> str | tuple[str, ...] | None:
    if value is None or (is_single_allowed and isinstance(value, str)):
        return value
    if isinstance(value, str):
        raise TypeError(f'local.{key}={value!r} must be a list: {key}=[{value!r}].')
    if not isinstance(value, Sequence) or not all(isinstance(v, str) for v in value):
        raise TypeError(
            f"local.{key}={value!r} must be a list of units' names, such as "
            f"{key}=['layer3.5']."
        )
    return tuple(value)


def _plan(value: Any) -> Plan:
    if isinstance(value, Plan):
        return value
    if not isinstance(value, str):
        raise TypeError(f'local.plan={value!r} must be the path of a plan file.')
    return Plan.load(value)


def _weights(weights: Any) -> dict[str, Any]:
    if not isinstance(weights, Mapping | None):
        raise TypeError(
            f'local.weights={weights!r} must be a dict, such as '
            'weights=dict(reconstruction=(1.5, 1.5), segmentation=(1.0, 1.0)).'
        )
    filled = {**_DEFAULT_WEIGHTS, **(weights or {})}
    _refuse_unknown('local.weights', filled, PARTS)
    for part in PARTS:
        linear_weights(filled[part], 2)
    return filled


def _switch(key: str, value: Any) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise TypeError(f'local.{key}={value!r} must be True, False or None.')
    return value


def _period_of_plan(local: Mapping, plan: Plan) -> int | None:
    """``end_to_end_every`` where a plan decides; the setting may not contradict it."""
    period = _period(local.get('end_to_end_every'))
    if not plan.splits:
        return period  # without a wall there is one kind of step
    if period not in (None, plan.end_to_end_every):
        raise ValueError(
            f'local.end_to_end_every={period}, but the plan {local["plan"]} is for '
            f'{plan.end_to_end_every}: remove end_to_end_every, or make a new plan '
            'with tools/plan.py.'
        )
    return plan.end_to_end_every


def _refuse_beside_deep_supervision(cut: str, local: Mapping) -> None:
    if local.get('end_to_end_every') is not None:
        raise ValueError(
            'local.deep_supervision=True passes gradients through all walls in every '
            'step: remove end_to_end_every, or deep_supervision.'
        )
    if cut in ('plan', 'gpu_memory'):
        raise ValueError(
            f'local.{cut} plans the memory of training with walls, which '
            'deep_supervision=True takes away: cut by splits or num_modules.'
        )


def _pipeline(value: Any) -> int | tuple[int, ...] | None:
    if value is None:
        return None
    parts = [value] if isinstance(value, int) else value
    is_list = isinstance(parts, Sequence) and not isinstance(parts, str)
    if not is_list or not parts or not all(_is_count(part) for part in parts):
        raise ValueError(
            f'local.pipeline={value!r} must be the number of stages, such as 2, or the '
            'number of local modules of each stage, such as [2, 1, 1].'
        )
    return value if isinstance(value, int) else tuple(parts)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _random_streams(value: Any, pipeline: int | tuple[int, ...] | None) -> str:
    if value not in (None, *RANDOM_STREAMS):
        raise ValueError(
            f'local.random_streams={value!r} is unknown; choose one of '
            f'{", ".join(RANDOM_STREAMS)}.'
        )
    if pipeline is None:
        return value or 'process'
    if value == 'process':
        raise ValueError(
            "local.random_streams='process' is the stream of one process, and a "
            "pipeline has several: set 'module', or remove it."
        )
    return 'module'


def _refuse_beside_pipeline(local: Mapping) -> None:
    if _period(local.get('end_to_end_every')) is not None:
        raise ValueError(
            'local.pipeline trains modules at the same time, and end_to_end_every '
            'passes gradients through all of them in one step: remove one of the two.'
        )
    if local.get('deep_supervision'):
        raise ValueError(
            'local.pipeline needs walls between its stages, which '
            'deep_supervision=True takes away: remove one of the two.'
        )


def _period(value: Any) -> int | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if value is not None and (not is_number or value < 1):
        raise ValueError(
            f'local.end_to_end_every={value!r} must be None (never), 1 (every step is '
            'exact end-to-end training), or n for one step of n.'
        )
    return value


def _range(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    is_pair = isinstance(value, Sequence) and len(value) == 2
    if not is_pair or not all(isinstance(v, int | float) for v in value):
        raise TypeError(
            f'local.image_range={value!r} must be two numbers, the values of black and '
            'of white, such as image_range=(0, 255).'
        )
    black, white = map(float, value)
    if not black < white:
        raise ValueError(
            f'local.image_range={value!r}: black must be less than white, such as '
            'image_range=(0, 255).'
        )
    return black, white


def _refuse_unknown(where: str, given: Mapping, allowed: Sequence[str]) -> None:
    unknown = [key for key in given if key not in allowed]
    if unknown:
        hint = ', '.join(_nearest(unknown, allowed))
        raise ValueError(
            f'{where} has unknown settings {unknown}; allowed: {", ".join(allowed)}.'
            + (f' Nearest: {hint}.' if hint else '')
        )


def _nearest(unknown: Sequence[str], allowed: Sequence[str]) -> Iterator[str]:
    for key in unknown:
        yield from difflib.get_close_matches(str(key), allowed, n=1, cutoff=0.6)
