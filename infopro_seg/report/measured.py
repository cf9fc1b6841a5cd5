"""What local modules cost in accuracy, as far as studies have measured it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

#: Written by ``tools/analysis/price_list.py`` from the results of studies.
PRICE_LIST = Path(__file__).with_name('price_list.json')
#: Fewer pairs of seeds give no interval that is worth the name.
LEAST_SEEDS = 3
# Local settings that make end-to-end training.
_UNCUT: tuple[dict[str, Any], ...] = ({'splits': []}, {'num_modules': 1})
# Of a row that trains as plans do: with the default heads and weights.
_PLANNED = {'num_modules', 'end_to_end_every'}


class Measured(NamedTuple):
    """The difference to end-to-end training, paired over seeds, in points of mIoU.

    Args:
        about: Network and data.
        iterations: Of each run.
        num_modules: K.
        end_to_end_every: See `LocalSettings`.
        num_seeds: Number of pairs.
        mean: Mean of the differences.
        low: Lower end of its 95% interval.
        high: Upper end.
    """

    about: str
    iterations: int
    num_modules: int
    end_to_end_every: int | None
    num_seeds: int
    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f'{self.mean:+.1f} mIoU ({self.low:+.1f} to {self.high:+.1f})'


def price_list(studies: Iterable[Mapping[str, Any]]) -> list[Measured]:
    """The measured differences in the results of studies.

    Args:
        studies: Contents of what ``tools/study.py`` writes as ``NAME.json``.

    Raises:
        ValueError: if an earlier version has written one.
    """
    return [
        Measured(
            about=study['facts']['about'],
            iterations=study['facts']['iterations'],
            num_modules=method['local']['num_modules'],
            end_to_end_every=method['local'].get('end_to_end_every'),
            num_seeds=len(method['difference']['seeds']),
            mean=round(method['difference']['mean'], 2),
            low=round(method['difference']['low'], 2),
            high=round(method['difference']['high'], 2),
        )
        for study in studies
        if study['facts']['scores on'] == 'val'  # not those of tuning
        and _is_end_to_end(study)
        for method in study['methods']
        if not method['differs']
        and 'num_modules' in method['local']
        and method['local'].keys() <= _PLANNED
        and method['local'].get('end_to_end_every') != 1
        and method['difference'] is not None
        and len(method['difference']['seeds']) >= LEAST_SEEDS
    ]


def _is_end_to_end(study: Mapping[str, Any]) -> bool:
    """Whether the baseline of a study is end-to-end training."""
    facts = study['facts']
    methods = {method['name']: method for method in study['methods']}
    if 'baseline' not in facts or any('differs' not in m for m in methods.values()):
        raise ValueError(
            f'the results of study {facts["about"]!r} are of an earlier version: '
            'write them again with tools/study.py STUDY.yaml --report.'
        )
    baseline = methods.get(facts['baseline'])
    return baseline is not None and baseline['local'] in _UNCUT


def read_price_list(path: Path = PRICE_LIST) -> list[Measured]:
    """The price list that comes with the package."""
    return [Measured(**entry) for entry in json.loads(path.read_text(encoding='utf-8'))]


def price(
    prices: Sequence[Measured], num_modules: int, end_to_end_every: int | None
) -> str:
    """What was measured for so many modules; ``not measured`` if nothing was."""
    marks = _marks(prices)
    found = [
        f'{entry}{marks[_source(entry)]}'
        for entry in prices
        if (entry.num_modules, entry.end_to_end_every)
        == (num_modules, end_to_end_every)
    ]
    return '; '.join(found) or 'not measured'


def sources(prices: Sequence[Measured]) -> str:
    """Where prices are from, one line for each study; empty without prices."""
    return '\n'.join(f' {mark} {source}' for source, mark in _marks(prices).items())


def _source(entry: Measured) -> str:
    return f'{entry.about}, {entry.iterations} iterations'


def _marks(prices: Sequence[Measured]) -> dict[str, str]:
    """What tells apart the studies that prices are from; nothing if it is one."""
    found = dict.fromkeys(map(_source, prices))
    if len(found) == 1:
        return dict.fromkeys(found, '')
    return {source: f' [{i}]' for i, source in enumerate(found, 1)}
