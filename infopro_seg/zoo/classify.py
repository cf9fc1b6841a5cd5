"""Which of mmseg's configs can be trained as local modules, and why others cannot.

Models are built without memory for their weights, so that hundreds take minutes. Only
the probe of shapes is run; whether the families train is tested elsewhere.
"""

import copy
import dataclasses
import importlib.util
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from ..models.weightless import WithoutStorage
from ..settings.config import model_config
from ..settings.localize import LOCAL_TYPES
from ..units import units_of

# Settings that do not change the structure of a network.
_IGNORED = (
    'checkpoint',
    'class_weight',
    'init_cfg',
    'loss_decode',
    'num_classes',
    'pad_val',
    'pretrained',
    'seg_pad_val',
    'size',
    'test_cfg',
    'train_cfg',
)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The result for one config.

    Args:
        config: Path below the folder of configs.
        family: Type of the backbone, or of the segmentor if it has none.
        num_units: Units of the backbone; 0 if refused.
        reason: Why it is refused; empty if it is supported.
    """

    config: str
    family: str
    num_units: int
    reason: str = ''

    @property
    def is_supported(self) -> bool:
        """Whether the config can be trained as local modules."""
        return not self.reason


def classify_folder(
    folder: Path, *, one_per_combination: bool = False
) -> Iterator[Verdict]:
    """Classify all configs below a folder.

    Configs with equal networks are classified only once.

    Args:
        folder: A folder such as mmseg's ``configs``; ``_base_`` is left out.
        one_per_combination: Take one config for each combination of segmentor,
            backbone, neck and heads, and skip the others.

    Yields:
        Verdicts in the order of the paths.
    """
    seen: dict[str, Verdict] = {}
    for path in sorted(folder.rglob('*.py')):
        if '_base_' in path.parts:
            continue
        model = model_config(Config.fromfile(path, import_custom_modules=False))
        parts = model_types(model) if one_per_combination else _network(model)
        key = json.dumps(parts, sort_keys=True, default=str)
        name = path.relative_to(folder).as_posix()
        if key not in seen:
            family, num_units, reason = classify_model(model)
            seen[key] = Verdict(name, family, num_units, reason)
        elif one_per_combination:
            continue
        yield dataclasses.replace(seen[key], config=name)


def classify_model(model: ConfigDict) -> tuple[str, int, str]:
    """Classify one model.

    Args:
        model: The ``model`` of a config; it is not changed.

    Returns:
        Family, number of units and reason of a `Verdict`.

    Raises:
        Exception: any error of the local model, if the stock model can be built and
            its backbone has units: this is a bug of this package.
    """
    family = model.get('backbone', model).type
    if model.type not in LOCAL_TYPES:
        return family, 0, f'segmentor {model.type} has no local form'
    missing = missing_packages(model)
    if missing:
        return family, 0, f'needs {", ".join(missing)}, not installed'
    init_default_scope('mmseg')
    local = ConfigDict(
        copy.deepcopy(model),
        type=LOCAL_TYPES[model.type],
        local={'num_modules': 2},
    )
    with WithoutStorage():
        try:
            segmentor = MODELS.build(local)
        except Exception:
            reason = _why_refused(model)
            if not reason:
                raise
            return family, 0, reason
    return family, sum(len(module.units) for module in segmentor.local_modules), ''


def _why_refused(model: ConfigDict) -> str:
    """Why a model cannot be local; empty if it should have worked."""
    try:
        stock = MODELS.build(copy.deepcopy(model))
    except Exception as error:  # any: mmseg's own model, built by mmseg alone
        return f'mmseg cannot build it here: {first_sentence(error)}'
    try:
        units_of(stock.backbone)
    except (TypeError, ValueError) as error:
        return first_sentence(error)
    return ''


def missing_packages(model: Any) -> list[str]:
    """Packages that types such as ``mmdet.FocalLoss`` name and that are missing."""
    scopes = {name.split('.')[0] for name in _all_types(model) if '.' in name}
    return sorted(s for s in scopes if importlib.util.find_spec(s) is None)


def model_types(model: Mapping) -> dict[str, Any]:
    """The types of a model's segmentor, backbone, neck and heads."""
    parts = ('backbone', 'neck', 'decode_head', 'auxiliary_head')
    types = {part: _types(model.get(part)) for part in parts}
    return {'segmentor': model['type'], **types}


def _network(node: Any) -> Any:
    """A config without the settings that do not change the network."""
    if isinstance(node, Mapping):
        return {k: _network(v) for k, v in node.items() if k not in _IGNORED}
    if isinstance(node, list | tuple):
        return [_network(value) for value in node]
    return node


def _types(part: Any) -> Any:
    if isinstance(part, list | tuple):
        return [_types(one) for one in part]
    return part and part['type']


def _all_types(node: Any) -> Iterable[str]:
    if isinstance(node, Mapping):
        if isinstance(node.get('type'), str):
            yield node['type']
        node = list(node.values())
    if isinstance(node, list | tuple):
        for value in node:
            yield from _all_types(value)


def first_sentence(error: Exception) -> str:
    """The first sentence of an error, fit for a table."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].split('. ')[0].replace('|', '/')
