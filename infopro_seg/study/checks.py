"""Finds what would stop a run of a study, or train in vain, before the first starts.

What can be built is built, as the run would: the host itself says what it accepts.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mmengine.config import Config, ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, PARAM_SCHEDULERS
from mmseg.registry import DATASETS, METRICS, MODELS

from ..datasets import check_data, loaders_of
from ..engine.quiet import quiet_log
from ..engine.random_state import random_numbers_from
from ..scopes import use_scope_of
from ..settings import LocalSettings
from ..settings.config import as_list, divide_batch
from ..settings.localize import stock_model_config
from .job import (
    Job,
    Places,
    base_config,
    digest_of,
    jobs_of,
    row_config,
    set_data,
)
from .matrix import Row, Study
from .options import names_instead, option_value
from .start import write_initial_weights

# Of a hook's config, but not for its class.
_HOOK_ENTRIES = ('type', 'priority')
# What the Runner reads to train and to score. Other names of a config, such as
# crop_size, have been used when the config was read.
_READ = (
    *('model', 'train_dataloader', 'val_dataloader', 'train_cfg', 'val_cfg'),
    *('optim_wrapper', 'param_scheduler', 'val_evaluator', 'auto_scale_lr'),
    *('default_hooks', 'custom_hooks', 'custom_imports', 'default_scope'),
    *('env_cfg', 'log_processor', 'log_level', 'randomness', 'visualizer'),
)


def check_jobs(
    study: Study, places: Places, check_model: Callable[[Config], None]
) -> None:
    """Check all methods: settings, options, all that a run is made of, the data.

    The initial weights of the first seed are written on the way.

    Args:
        study: The matrix.
        places: Where data and weights are.
        check_model: Finds errors in the model of a local config.

    Raises:
        ValueError: if an option or a ``local`` setting is unknown, wrong or without
            effect, something cannot be built, or a weights file is given where none
            is used.
        TypeError: if a ``local`` setting is of the wrong kind.
        FileNotFoundError: if data or weights are missing.
    """
    _check_weights(study, places)
    checked: set[str] = set()
    first_jobs = {job.row: job for job in reversed(jobs_of(study, places.weights))}
    for row in study.rows:
        with _of_row(row):
            cfg = row_config(study, row)
            LocalSettings.parse(cfg.model.local)
            check_model(cfg)
            _build_once(cfg, checked, first_jobs[row], places)
    _check_effects(study)
    for row in study.rows:
        cfg = row_config(study, row)
        with _of_row(row):
            set_data(cfg, study, places)
        loaders = [cfg.get('train_dataloader'), cfg.get('val_dataloader')]
        if (data := digest_of(loaders)) not in checked:
            checked.add(data)
            check_data(cfg, loaders=loaders_of(cfg, training=True))
            with _of_row(row):
                _build_data(cfg)


def _check_weights(study: Study, places: Places) -> None:
    if study.pretrained and places.weights is None:
        raise ValueError(
            f'study {study.name} starts from pretrained weights: give their file, '
            '--weights FILE.'
        )
    if places.weights is not None and not study.pretrained:
        raise ValueError(
            f'study {study.name} trains from scratch: leave out --weights, or set '
            'pretrained: true in the study file.'
        )


@contextmanager
def _of_row(row: Row) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError) as error:
        raise type(error)(f'row {row.name!r}: {error}') from error


@contextmanager
def _building(setting: str) -> Iterator[None]:
    """Tell what the host says of a setting, whatever kind of error it is."""
    try:
        yield
    except Exception as error:
        why = ' '.join(str(error).split()) or type(error).__name__
        raise ValueError(f'{setting} cannot be built: {why}') from error


def _build_once(cfg: Config, checked: set[str], job: Job, places: Places) -> None:
    """Build network, optimizer, schedules and the like, once for all rows."""
    use_scope_of(cfg)
    stock = stock_model_config(cfg.model.to_dict())
    stock['pretrained'] = None
    optimizer, schedules = cfg.get('optim_wrapper'), cfg.get('param_scheduler')
    metrics = as_list(cfg.get('val_evaluator'))
    hooks = [*cfg.default_hooks.values(), *cfg.custom_hooks]
    key = digest_of([stock, optimizer, schedules, metrics, hooks])
    if key in checked:
        return
    checked.add(key)
    with _building('model'), quiet_log(), random_numbers_from([0]):
        write_initial_weights(job, places)
        network = MODELS.build(ConfigDict(stock))
    with _building('optim_wrapper'):
        wrapper = build_optim_wrapper(network, optimizer)
    for schedule in as_list(schedules):
        if 'type' in schedule and not schedule.get('convert_to_iter_based'):
            with _building('param_scheduler'):
                PARAM_SCHEDULERS.build(
                    dict(schedule), default_args={'optimizer': wrapper}
                )
    for metric in metrics:
        with _building('val_evaluator'):
            METRICS.build(dict(metric))
    for hook in hooks:
        # Some need a Runner when they are built.
        kind = HOOKS.get(hook['type']) if isinstance(hook.get('type'), str) else None
        if kind is not None:
            with _building(f'hook {hook["type"]}'):
                given = {key: hook[key] for key in hook if key not in _HOOK_ENTRIES}
                inspect.signature(kind).bind_partial(**given)


def _build_data(cfg: Config) -> None:
    for loader in ('train_dataloader', 'val_dataloader'):
        with _building(f'{loader}.dataset'):
            DATASETS.build(cfg[loader].dataset)


def _check_effects(study: Study) -> None:
    """Refuse options that change nothing in any row: their runs would be copies."""
    rows: dict[str, tuple[str, list[Row]]] = {}
    for row in study.rows:
        for name, value in row.options.items():
            rows.setdefault(repr((name, value)), (name, []))[1].append(row)
    for name, own in rows.values():
        if not any(_has_effect(study, row, name) for row in own):
            cfg = row_config(study, own[0])
            read = {key: cfg[key] for key in _READ if key in cfg}
            names = names_instead(read, name)[:3]
            hint = f'; did you mean {" or ".join(names)}?' if names else '.'
            raise ValueError(
                f'row {own[0].name!r}: option {name} changes nothing that is trained '
                f'or scored{hint}'
            )


def _has_effect(study: Study, row: Row, name: str) -> bool:
    """Whether a row would train or score in another way without an option."""
    before = option_value(base_config(row).to_dict(), name)
    if digest_of(before) == digest_of(row.options[name]):
        return True  # written down again
    others = {key: value for key, value in row.options.items() if key != name}
    try:
        without = _trained(study, dataclasses.replace(row, options=others))
    except ValueError:  # another option needs it
        return True
    return _trained(study, row) != without


def _trained(study: Study, row: Row) -> str:
    cfg = row_config(study, row)
    divide_batch(cfg, 1)
    content = cfg.to_dict()
    return digest_of([content.get(key) for key in _READ])
