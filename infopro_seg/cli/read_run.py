"""Gathers what a report shows of a run: logs, network, predicted memory, samples.

What cannot be found out is said in a sentence; the rest of the report is still made.
"""

import copy
import datetime
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmseg.registry import DATASETS, MODELS

from ..checkpoints.files import read_checkpoint
from ..checkpoints.loading import last_checkpoint_of
from ..evaluation.samples import render_samples
from ..models import InfoProEncoderDecoder
from ..planner.from_config import setting_of_run
from ..planner.make import plan_in_use
from ..report.run import Network, NetworkModule, Run, Samples
from ..report.run_log import RunLog, read_run
from ..report.run_state import RunState, state_of
from ..report.text_log import TextLog, read_text_log
from ..scopes import use_scope_of
from ..settings.config import model_config
from ..settings.localize import is_local, localize
from ..settings.plan import Plan
from ..settings.recompute_mode import DECODE_HEAD, RecomputeMode
from .check_model import build_bare
from .run import is_debugging

Part = TypeVar('Part')


def read_work_dir(
    folder: Path,
    name: str,
    now: datetime.datetime,
    *,
    num_samples: int = 0,
    predicts: bool = False,
    trust_pickle: bool = False,
) -> Run:
    """Read a run.

    Args:
        folder: Its work dir.
        name: What the report calls it.
        now: When its state is judged.
        num_samples: Validation images to predict.
        predicts: Whether to predict its memory.
        trust_pickle: See `read_checkpoint`.

    Raises:
        ValueError: if a line of its log is damaged that is not the last one.
    """
    log, text = _numbers(folder), read_text_log(folder)
    missing = _not_measured(log)
    if not predicts:
        missing['plan'] = 'Predicted memory was left out (--no-predict).'
    if not num_samples:
        missing['samples'] = 'Samples were left out (--samples 0).'
    path = _config_file(folder)
    cfg = _attempt(missing, 'config', 'The config cannot be read', _read, path)
    run = Run(
        name,
        str(folder),
        log,
        text,
        state=_state(log, text, now, cfg),
        config='' if path is None else path.read_text('utf-8', 'replace'),
        missing=missing,
    )
    network = _attempt(missing, 'network', 'The network cannot be shown', _network, cfg)
    if cfg is not None and network is not None:
        local_cfg, model = network
        run.network = _described(model)
        if predicts:
            print(f'{name}: predicting its memory', file=sys.stderr)
            what = 'Its memory cannot be predicted'
            run.plan = _attempt(missing, 'plan', what, _predicted, cfg, model)
        if num_samples:
            print(f'{name}: predicting samples', file=sys.stderr)
            settings = local_cfg, folder, num_samples, trust_pickle
            what = 'There are no samples'
            run.samples = _attempt(missing, 'samples', what, _samples, *settings)
    return run


def _attempt(
    missing: dict[str, str],
    key: str,
    what: str,
    find: Callable[..., Part],
    *args: Any,
) -> Part | None:
    try:
        return find(*args)
    except Exception as error:  # configs, networks and data may do anything
        if is_debugging():
            traceback.print_exc()
        said = str(error.args[0]) if isinstance(error, KeyError) else str(error)
        reason = said.strip().partition('\n')[0] or type(error).__name__
        missing[key] = f'{what}: {reason.rstrip(".")}.'
        return None


def _numbers(folder: Path) -> RunLog:
    try:
        return read_run(folder)
    except FileNotFoundError:  # it has just begun
        return RunLog({})


def _not_measured(log: RunLog) -> dict[str, str]:
    """Why there is no measured memory, as a sentence."""
    reasons = []
    if 'memory' not in log.series:
        reasons.append(
            'The log has no measured peak; on a CPU, PeakMemoryHook adds it.'
        )
    if not log.matching('.saved_gib'):
        reasons.append(
            'Memory, time and gradients of each module are measured if '
            'monitor_interval of LocalTrainingHook is set.'
        )
    return {'measured': ' '.join(reasons)} if reasons else {}


def _config_file(folder: Path) -> Path | None:
    """The config that a run left: with splits in the work dir, else beside the log."""
    for pattern in ('*.py', '*/vis_data/config.py'):
        files = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime)
        if files:
            return files[-1]
    return None


def _read(path: Path | None) -> Config:
    if path is None:
        raise ValueError('there is none in the work dir')
    return Config.fromfile(path)


def _state(
    log: RunLog, text: TextLog, now: datetime.datetime, cfg: Config | None
) -> RunState:
    loop = (cfg and cfg.get('train_cfg')) or {}
    most = loop.get('max_iters')
    if most is None and loop.get('max_epochs') and text.epoch_length:
        most = loop['max_epochs'] * text.epoch_length
    validates = bool(cfg and cfg.get('val_dataloader') and cfg.get('val_cfg'))
    return state_of(log, text, now, max_iterations=most, validates=validates)


def _network(cfg: Config | None) -> tuple[Config, InfoProEncoderDecoder]:
    """The config with a local model, and that model without weights."""
    if cfg is None:
        raise ValueError('its config is not known')
    cfg = copy.deepcopy(cfg)
    if not is_local(cfg.model):
        localize(cfg, {'splits': []})
    return cfg, build_bare(cfg)


def _described(model: InfoProEncoderDecoder) -> Network:
    backbone = type(model.backbone).__name__
    depth = getattr(model.backbone, 'depth', '')
    modules = tuple(
        NetworkModule(
            module.name,
            tuple(unit.name for unit in module.units),
            {
                unit.name: module.recompute[unit.name].spelled(unit.name)
                for unit in module.units
                if module.recompute.get(unit.name)
            },
            tuple(_heads(model, module.index)),
        )
        for module in model.local_modules
    )
    return Network(
        f'{backbone} {depth}'.strip() + f' with {_decode_head(model)}',
        modules,
        model.end_to_end_every,
    )


def _decode_head(model: InfoProEncoderDecoder) -> str:
    head = model.decode_head
    stages = head if isinstance(head, list) or hasattr(head, '__len__') else [head]
    return ' and '.join(type(stage).__name__ for stage in stages)


def _heads(model: InfoProEncoderDecoder, index: int) -> list[str]:
    """What is trained with a module, in words."""
    heads = []
    if index < len(model.local_heads):
        head = model.local_heads[index]
        halves = [n for n in ('reconstruction', 'segmentation') if getattr(head, n)]
        if halves:
            heads.append(f'local head: {", ".join(halves)}')
    if index == len(model.local_modules) - 1:
        again = ' (recomputed)' if model.head_mode else ''
        heads.append(f'decode head: {_decode_head(model)}{again}')
    names = [name for name, i in model.auxiliary_module.items() if i == index]
    return heads + [f'auxiliary head: {name}' for name in names]


def _predicted(cfg: Config, model: InfoProEncoderDecoder) -> Plan:
    modes = dict(model.local_modules[0].recompute)
    if model.head_mode is not RecomputeMode.NOTHING:
        modes[DECODE_HEAD] = model.head_mode
    splits = model.local['splits']
    return plan_in_use(setting_of_run(cfg), splits, modes, model.end_to_end_every)


def _samples(cfg: Config, folder: Path, num: int, trust_pickle: bool) -> Samples:
    cfg.work_dir = str(folder)
    path, problems = last_checkpoint_of(cfg, trust_pickle=trust_pickle)
    if path is None:
        raise ValueError(' '.join(problems) or 'no checkpoint is in the work dir yet')
    use_scope_of(cfg)
    config = model_config(cfg)
    config.pop('pretrained', None)
    model = revert_sync_batchnorm(MODELS.build(config))
    weights = read_checkpoint(path, trust_pickle=trust_pickle)['state_dict']
    model.load_state_dict(weights)
    dataset = DATASETS.build(copy.deepcopy(cfg.val_dataloader.dataset))
    num = min(num, len(dataset))
    rows = render_samples(model, dataset, [i * len(dataset) // num for i in range(num)])
    classes = dataset.metainfo['classes'], dataset.metainfo['palette']
    named = [(name, tuple(colour)) for name, colour in zip(*classes, strict=False)]
    return Samples(rows, named, path.name)
