"""One run of a study: its settings, and the config that ``tools/train.py`` is given."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from ..datasets import set_data_root
from ..scopes import use_scope_of
from ..settings.config import as_list, model_config, read_config, type_name
from ..settings.localize import RUN_HOOK, localize
from .held_out import hold_out
from .matrix import TRAIN_SPLIT, Row, Study
from .options import check_option
from .schedules import stretch_schedules

_LOG_INTERVAL = 10
_METRIC = 'infopro_seg.evaluation.class_iou_metric'


@dataclasses.dataclass(frozen=True)
class Places:
    """Where things are on this machine; no number depends on it.

    Args:
        out: Folder of the runs: logs, checkpoints, initial weights.
        results: Folder of the report; rows lie in ``NAME/rows`` of it.
        data_root: Folder of the data; None for that of the configs.
        weights: File of pretrained weights.
    """

    out: Path
    results: Path
    data_root: str | None = None
    weights: str | None = None

    def rows(self, study: Study) -> Path:
        """Folder of the finished runs of a study."""
        return self.results / study.name / 'rows'


# A run is equal to itself only: settings are dicts, which have no hash.
@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """A run.

    Args:
        study: What it belongs to.
        row: The method.
        seed: Of data order, augmentations and initial weights.
        settings: All that its numbers depend on but the seed, in plain values.
    """

    study: Study
    row: Row
    seed: int
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """For messages."""
        return f'{self.row.name}, seed {self.seed}'

    @property
    def slug(self) -> str:
        """For file names."""
        return f'{self.row.slug}_seed{self.seed}'

    @property
    def digest(self) -> str:
        """Of settings and seed."""
        return digest_of([self.settings, self.seed])

    def folder(self, places: Places) -> Path:
        """Work dir. With other settings it is another one, so that nothing is mixed."""
        return places.out / 'runs' / f'{self.slug}_{self.digest}'


def jobs_of(study: Study, weights: str | None = None) -> list[Job]:
    """The runs, in order: row by row, the seeds of a row one after the other.

    Args:
        study: The matrix.
        weights: File of pretrained weights; None leaves it out of the settings.
    """
    weights_digest = None
    if weights is not None:
        weights_digest = hashlib.sha256(Path(weights).read_bytes()).hexdigest()[:12]
    config_digests = {
        name: digest_of(read_config(name).to_dict())
        for name in {row.config for row in study.rows}
    }
    jobs = []
    for row in study.rows:
        settings = {
            'config': row.config_name,
            'config_digest': config_digests[row.config],
            'local': dict(row.local),
            'options': dict(row.options),
            'iterations': row.iterations,
            'validation_interval': row.validation_interval,
            'validate_on': study.validate_on,
            'pretrained': study.pretrained,
            'weights_digest': weights_digest,
        }
        # As it is read back from a file.
        settings = json.loads(json.dumps(settings))
        jobs += [Job(study, row, seed, settings) for seed in row.seeds]
    return jobs


def digest_of(value: Any) -> str:
    """Eight characters that differ where values do."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def base_config(row: Row) -> Config:
    """The config of a method without the options: its base, made local."""
    cfg = read_config(row.config)
    localize(cfg, row.local)
    return cfg


def method_config(row: Row) -> Config:
    """The config of a method, with the options.

    Raises:
        ValueError: if an option names nothing in the config, or what the study sets.
    """
    cfg = base_config(row)
    content = cfg.to_dict()
    for key in row.options:
        check_option(content, key)
    cfg.merge_from_dict(dict(row.options))
    cfg.model = model_config(cfg)
    return cfg


def row_config(study: Study, row: Row) -> Config:
    """The config of a method with what the study file says for all its runs.

    Raises:
        ValueError: if an option is wrong, or the config cannot be used in a study.
    """
    cfg = method_config(row)
    _complete(cfg, study, row)
    return cfg


def run_config(job: Job, places: Places, initial_weights: Path) -> Config:
    """The whole config of a run; ``tools/train.py`` needs nothing else.

    Args:
        job: The run.
        places: Where data and runs are.
        initial_weights: File of the weights that are shared by all methods.

    Raises:
        ValueError: if the config has no IoUMetric, or the data cannot be split.
    """
    cfg = row_config(job.study, job.row)
    set_data(cfg, job.study, places)
    cfg.randomness = {**cfg.get('randomness', {}), 'seed': job.seed}
    cfg.load_from = str(initial_weights.resolve())
    cfg.work_dir = str(job.folder(places).resolve())
    cfg.experiment_name = f'{job.study.name}_{job.slug}_{job.digest}'
    return cfg


def _complete(cfg: Config, study: Study, row: Row) -> None:
    """Set what the study file says for all runs of a row."""
    if 'max_iters' not in (cfg.get('train_cfg') or {}):
        raise ValueError('train_cfg of the config must count iterations (max_iters).')
    scale = row.iterations / cfg.train_cfg.max_iters
    stretch_schedules(cfg.get('param_scheduler'), scale)
    cfg.merge_from_dict(
        {
            'train_cfg.max_iters': row.iterations,
            'train_cfg.val_interval': row.validation_interval,
            'train_cfg.val_begin': 1,
            'default_hooks.logger.interval': min(_LOG_INTERVAL, row.iterations),
            'model.pretrained': None,
        }
    )
    # The last two, if the last one cannot be read.
    cfg.default_hooks.checkpoint = ConfigDict(
        type='CheckpointHook',
        by_epoch=False,
        interval=study.checkpoint_interval,
        max_keep_ckpts=2,
    )
    # All weights but those of local heads come from the file of initial weights.
    cfg.model.backbone.pop('init_cfg', None)
    for hook in cfg.custom_hooks:
        if type_name(hook) == RUN_HOOK:
            hook['monitor_interval'] = 0
    metrics = [m for m in as_list(cfg.val_evaluator) if type_name(m) == 'IoUMetric']
    if not metrics:
        raise ValueError('val_evaluator of the config must be an IoUMetric.')
    metrics[0]['type'] = 'ClassIoUMetric'
    imports = as_list(cfg.custom_imports.imports)
    cfg.custom_imports.imports = [*imports, _METRIC]


def set_data(cfg: Config, study: Study, places: Places) -> None:
    """Set where the data is, and what of it is trained on, in place."""
    if places.data_root is not None:
        set_data_root(cfg, str(Path(places.data_root).resolve()))
    if study.validate_on == TRAIN_SPLIT:
        use_scope_of(cfg)
        hold_out(cfg)
