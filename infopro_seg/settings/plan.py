"""A plan: where to cut, what to recompute and how much memory is predicted.

Pure data and JSON. `infopro_seg.planner.make` makes plans; a config reads one by
``local=dict(plan='plan.json')``.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .recompute_mode import DECODE_HEAD, parsed

_REQUIRED = ('splits', 'recompute', 'predicted_peak_bytes')


@dataclasses.dataclass(frozen=True)
class PlannedModule:
    """What one local module of a plan needs.

    Args:
        name: A name such as ``local_0``.
        units: Names of its first and last unit; empty for the decode head alone.
        num_units: Number of units.
        parameter_bytes: Weights of its units; of the last module, also those of the
            decode head.
        head_parameter_bytes: Weights of its local head.
        start_bytes: Alive when it begins: all weights and optimizer state, gradients of
            earlier modules, the batch, and what crossed the wall.
        activation_bytes: Kept by its units until its backward.
        head_bytes: Kept by its heads and their losses until its backward.
        peak_bytes: Most bytes alive at once, everything included.
        share: ``peak_bytes`` divided by the peak of end-to-end training.
        recompute: Names of its units that are recomputed.
        extra_flops: FLOPs of local head and recompute, divided by those of end-to-end
            training.
    """

    name: str
    units: tuple[str, ...]
    num_units: int
    parameter_bytes: int
    head_parameter_bytes: int
    start_bytes: int
    activation_bytes: int
    head_bytes: int
    peak_bytes: int
    share: float
    recompute: tuple[str, ...]
    extra_flops: float


@dataclasses.dataclass(frozen=True)
class Plan:
    """A way to train a network as local modules, and its predicted memory.

    All peaks cover the model, its optimizer and its batch; anything else on a GPU is
    ``reserve_bytes``.

    Args:
        splits: For ``local=dict(splits=...)``.
        recompute: For ``local=dict(recompute=...)``.
        predicted_peak_bytes: Most bytes alive in a training step.
        end_to_end_peak_bytes: The same without walls and recompute.
        checkpointing_peak_bytes: The same without walls, all units recomputed.
        flops_overhead: FLOPs of local heads and of what runs again, divided by those
            of end-to-end training.
        flops_ratio: All FLOPs divided by those of end-to-end training; walls save the
            gradients that no longer cross them.
        fits: Whether the plan fits the GPU; None if no GPU memory was given.
        smallest_peak_bytes: The least that any plan with these settings needs.
        tracked_peak_bytes: Peak counted in a step of this plan on fake tensors; None
            if not checked.
        gpu_memory_bytes: Memory of the GPU; None if not given.
        reserve_bytes: Set aside for context, workspaces and fragmentation.
        batch_size: Images per step and GPU.
        crop_size: (height, width) in pixels.
        amp_dtype: Type of mixed precision, or None.
        modules: One entry per local module.
        end_to_end: The whole network as one module.
        assumptions: What the prediction assumes, as sentences.
        end_to_end_every: For ``local=dict(end_to_end_every=...)``: 1 for exact
            end-to-end training, whose modules are segments; n for one exact step of
            n; None for local modules, and where there is no wall.
        conditions: What else the prediction depends on, such as ``look_ahead=0``, see
            `infopro_seg.planner.conditions`; empty if not known.
    """

    splits: tuple[str, ...]
    recompute: tuple[str, ...]
    predicted_peak_bytes: int
    end_to_end_peak_bytes: int = 0
    checkpointing_peak_bytes: int = 0
    flops_overhead: float = 0.0
    flops_ratio: float = 1.0
    fits: bool | None = None
    smallest_peak_bytes: int = 0
    tracked_peak_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    reserve_bytes: int = 0
    batch_size: int = 0
    crop_size: tuple[int, ...] = ()
    amp_dtype: str | None = None
    modules: tuple[PlannedModule, ...] = ()
    end_to_end: PlannedModule | None = None
    assumptions: tuple[str, ...] = ()
    end_to_end_every: int | None = None
    conditions: tuple[str, ...] = ()

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON."""
        text = json.dumps(dataclasses.asdict(self), indent=2)
        Path(path).write_text(text + '\n', encoding='utf-8')

    def mismatch(
        self,
        *,
        unit_names: Sequence[str] | None = None,
        batch_size: int | None = None,
        crop_size: Sequence[int] | None = None,
        amp_dtype: str | None = None,
    ) -> str | None:
        """Why the plan does not suit a run, as a sentence; None if it does.

        Arguments that are None, or not set in the plan, are not compared. A run that
        needs less memory than planned is fine.

        Args:
            unit_names: Names of all units of the backbone.
            batch_size: Images per step and GPU.
            crop_size: (height, width) in pixels.
            amp_dtype: Type of mixed precision; ``float32`` for none.
        """
        if unit_names is not None:
            recomputed = [parsed(name)[0] for name in self.recompute]
            unknown = [name for name in self.splits if name not in unit_names]
            allowed = {*unit_names, DECODE_HEAD, 'all'}
            unknown += [name for name in recomputed if name not in allowed]
            if unknown:
                return (
                    f'this is a plan of another network: it names the unit '
                    f'{unknown[0]!r}, but the units of this backbone are '
                    f'{", ".join(unit_names)}; make a new plan with tools/plan.py.'
                )
        if batch_size and self.batch_size and batch_size > self.batch_size:
            return _differs('batch_size', self.batch_size, batch_size)
        given, planned = tuple(crop_size or ()), self.crop_size
        if given and planned and math.prod(given) > math.prod(planned):
            return _differs('crop size', planned, given)
        if amp_dtype == 'float32' and self.amp_dtype is not None:
            return _differs('precision', self.amp_dtype, amp_dtype)
        return None

    @property
    def allowed_bytes(self) -> int:
        """What a run may need: what the GPU has for it, or else what is predicted."""
        if self.gpu_memory_bytes is not None and self.fits:
            return self.gpu_memory_bytes - self.reserve_bytes
        return max(self.predicted_peak_bytes, self.tracked_peak_bytes or 0)

    @classmethod
    def load(cls, path: str | Path) -> 'Plan':
        """Read a plan.

        Args:
            path: A JSON file, from `save` or written by hand. It must have
                ``splits``, ``recompute`` and ``predicted_peak_bytes``.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is not JSON, or a key is missing, unknown or has a value
                of the wrong kind; the message names the file and the key.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f'plan {path} does not exist; make it with "python tools/plan.py '
                f'CONFIG --gpu-memory 11GiB --out {path}".'
            )
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f'plan {path} is not JSON: {error}.') from error
        return cls(**_checked(path, content, cls, _REQUIRED))


def _differs(name: str, planned: Any, given: Any) -> str:
    return (
        f'the plan is for {name} {planned}, but this run has {given}: make a new plan '
        f'with tools/plan.py and {given}, or train with {planned}.'
    )


def _checked(where: Any, content: Any, cls: type, required: tuple = ()) -> dict:
    """The fields of a dataclass, checked and as tuples instead of lists."""
    if not isinstance(content, Mapping):
        raise ValueError(
            f'plan {where} must hold an object with keys, not {content!r}.'
        )
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if not required:
        required = tuple(fields)
    for key in required:
        if key not in content:
            raise ValueError(
                f'plan {where} lacks the key {key!r}; required: {", ".join(required)}.'
            )
    for key in content:
        if key not in fields:
            raise ValueError(
                f'plan {where} has the unknown key {key!r}; allowed: '
                f'{", ".join(fields)}.'
            )
    return {
        key: _value(where, key, value, _kind(fields[key].type))
        for key, value in content.items()
    }


def _kind(annotation: Any) -> str:
    text = str(annotation)
    return annotation.__name__ if text.startswith('<class') else text


def _value(where: Any, key: str, value: Any, kind: str) -> Any:
    if value is None and 'None' in kind:
        return None
    if 'PlannedModule' in kind:
        place = f'{where}, key {key!r},'
        if kind.startswith('tuple') and isinstance(value, list):
            return tuple(
                PlannedModule(**_checked(place, v, PlannedModule)) for v in value
            )
        return PlannedModule(**_checked(place, value, PlannedModule))
    if kind.startswith('tuple'):
        item = str if 'str' in kind else int
        if isinstance(value, list) and all(_is(v, item) for v in value):
            return tuple(value)
        wanted = f'a list of {"names" if item is str else "integers"}'
    else:
        types = {'int': int, 'float': float, 'bool': bool, 'str': str}
        wanted = kind.split(' ')[0]
        if _is(value, types[wanted]):
            return value
    raise ValueError(f'plan {where}: key {key!r} must be {wanted}, got {value!r}.')


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is kind
