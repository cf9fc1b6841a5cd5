"""Measure where a trained network loses information, or how local gradients agree."""

import argparse
import copy
import datetime
import os
import platform
import shlex
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from ..benchmark.facts import device_name, versions
from ..datasets import check_data
from ..information.boundaries import probed_boundaries
from ..information.gradients import heads_by_unit
from ..information.measure import (
    Options,
    TrainedNetwork,
    measure_gradients,
    measure_information,
    uncut,
)
from ..information.results import (
    GRADIENTS,
    INFORMATION,
    Entry,
    add_result,
    check_results,
    slug,
)
from ..report.pictures import save_grid
from ..settings.config import batch_size_of, leaf_datasets, model_config
from ..settings.heads import PRESETS
from ..settings.localize import localize, stock_model_config
from ..study.job import digest_of
from .config import add_data_arguments, add_trust_argument, load_config
from .run import KeyValues, make_parser

_LOADERS = ('train_dataloader', 'val_dataloader')
EXAMPLE = """example:
  python tools/probe.py configs/studies/camvid_mobilenetv2.py --data-root CAMVID \\
      --out probes end-to-end=a/iter_300.pth greedy=b/iter_300.pth
  python tools/probe.py configs/studies/camvid_mobilenetv2.py a/iter_300.pth \\
      --data-root CAMVID --gradients --local num_modules=4

Runs with the same --out add networks to its tables and figure.
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; None means that of the process."""
    parser = make_parser(__doc__, EXAMPLE)
    options = Options()
    _add_network(parser)
    _add_probes(parser, options)
    _add_gradients(parser, options)
    # `load_config` reads these, too.
    parser.set_defaults(work_dir=None, launcher='none', local_rank=0)
    args = parser.parse_args(argv)
    if args.iterations < 1 or args.batches < 1 or args.seed < 0:
        parser.error('--iterations and --batches must be above 0, --seed at least 0')
    if args.local and not args.gradients:
        parser.error('--local needs --gradients: probes do not depend on local heads')
    if args.boundaries and args.gradients:
        parser.error('--boundaries has no effect on --gradients; use --local splits=')
    return args


def _add_network(parser: argparse.ArgumentParser) -> None:
    add_data_arguments(parser)
    parser.add_argument(
        'checkpoints',
        nargs='+',
        metavar='CHECKPOINT',
        help='checkpoint file (.pth) of this config, or NAME=FILE: its name in tables',
    )
    parser.add_argument(
        '--out', type=Path, default=Path('probes'), help='folder; default: probes'
    )
    parser.add_argument('--force', action='store_true', help='replace earlier numbers')
    add_trust_argument(parser)


def _add_probes(parser: argparse.ArgumentParser, options: Options) -> None:
    parser.add_argument(
        '--boundaries',
        nargs='+',
        metavar='UNIT',
        help='units whose outputs are probed; default: up to eight and the last',
    )
    parser.add_argument(
        '--head', choices=sorted(PRESETS), default=options.head, help='the probes'
    )
    parser.add_argument(
        '--iterations',
        type=int,
        default=options.iterations,
        metavar='N',
        help=f'training steps of the probes; default: {options.iterations}',
    )
    parser.add_argument('--seed', type=int, default=options.seed)


def _add_gradients(parser: argparse.ArgumentParser, options: Options) -> None:
    group = parser.add_argument_group('gradients')
    group.add_argument(
        '--gradients',
        action='store_true',
        help='compare gradients of local heads with end-to-end ones, train no probes',
    )
    group.add_argument(
        '--local',
        nargs='+',
        action=KeyValues,
        metavar='KEY=VALUE',
        help='walls and local heads, e.g. num_modules=4; default: those of the config',
    )
    group.add_argument(
        '--batches',
        type=int,
        default=options.num_batches,
        metavar='B',
        help=f'default: {options.num_batches}',
    )


def main(argv: list[str] | None = None) -> None:
    """Check what can be checked, measure every network, write the report."""
    args = parse_args(argv)
    # Of the host, for every network that is built.
    warnings.filterwarnings('ignore', message='Default ``avg_non_ignore``')
    files = named_files(args.checkpoints)
    cfg = load_config(args)
    cfg.model = model_config(cfg)
    for name in _LOADERS:
        if cfg.get(name) is None:
            raise ValueError(f'{args.config} has no {name}, which probes need.')
    settings = _settings(args, cfg)
    kind = GRADIENTS if args.gradients else INFORMATION
    check_results(args.out, kind, settings, [*files], force=args.force)
    networks = {name: _checked(args, cfg, path) for name, path in files.items()}
    check_data(cfg, loaders=_LOADERS)
    for name in files:
        print(f'measuring {name} ...', flush=True)
        entry = _measured(args, name, networks.pop(name))
        entry = {'name': name, **entry, 'facts': _facts(args)}
        table = add_result(args.out, kind, settings, entry)
    print(f'{table}\nwrote {args.out / kind}.md')


def named_files(checkpoints: Sequence[str]) -> dict[str, Path]:
    """Checkpoint files by their names in tables.

    Raises:
        FileNotFoundError: if a file does not exist.
        ValueError: if two have the same name.
    """
    files: dict[str, Path] = {}
    for text in checkpoints:
        name, file = _name_and_file(text)
        if name in files:
            raise ValueError(
                f'two checkpoints are named {name!r}: {files[name]} and {file}; name '
                'them, NAME=FILE.'
            )
        files[name] = Path(file)
    return files


def _name_and_file(text: str) -> tuple[str, str]:
    """Split NAME=FILE where it names a file; both may have equals signs."""
    if Path(text).is_file():
        return Path(text).stem, text
    parts = text.split('=')
    for i in range(1, len(parts)):
        name, file = '='.join(parts[:i]), '='.join(parts[i:])
        if name and Path(file).is_file():
            return name, file
    raise FileNotFoundError(
        f'checkpoint {text.partition("=")[2] or text} does not exist.'
    )


def _checked(args: argparse.Namespace, cfg: Config, path: Path) -> TrainedNetwork:
    """A network for which all settings are right."""
    if args.gradients:
        cfg = copy.deepcopy(cfg)
        localize(cfg, {})
    else:
        cfg = uncut(cfg)
    trained = TrainedNetwork(
        cfg,
        path,
        needs_auxiliary=args.gradients,
        trust_pickle=args.trust_checkpoint,
    )
    if args.gradients:
        heads_by_unit(trained.network)
    else:
        probed_boundaries(trained.unit_names, args.boundaries)
    return trained


def _measured(args: argparse.Namespace, name: str, trained: TrainedNetwork) -> Entry:
    options = Options(
        iterations=args.iterations,
        seed=args.seed,
        head=args.head,
        boundaries=args.boundaries,
        num_batches=args.batches,
    )
    if args.gradients:
        return measure_gradients(trained, options)
    entry, pictures = measure_information(trained, options)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f'reconstructions_{slug(name)}.png'
    save_grid(pictures, [*pictures[0]], path)
    return entry


def _settings(args: argparse.Namespace, cfg: Config) -> dict[str, Any]:
    """What numbers that are compared have in common."""
    settings = {
        'iterations': args.iterations,
        'batch_size': batch_size_of(cfg),
        'seed': args.seed,
        'network_and_data': _digest(cfg),
    }
    key, value = ('batches', args.batches) if args.gradients else ('head', args.head)
    return {**settings, key: value}


def _digest(cfg: Config) -> str:
    """Characters that differ where the network or its data does; not its folder."""
    datasets = [
        {key: value for key, value in part.items() if key != 'data_root'}
        for name in _LOADERS
        for part in leaf_datasets(cfg[name].get('dataset'))
    ]
    return digest_of([stock_model_config(cfg.model.to_dict()), datasets])


def _facts(args: argparse.Namespace) -> dict[str, str]:
    """Where the numbers come from; folders are those of whoever makes them again."""
    config = Path(args.config)
    given = config.name if config.is_absolute() else config.as_posix()
    command = ['python', 'tools/probe.py', given, 'NAME=CHECKPOINT']
    command += ['--data-root', 'DATA'] if args.data_root else []
    command += ['--iterations', str(args.iterations), '--seed', str(args.seed)]
    command += ['--boundaries', *args.boundaries] if args.boundaries else []
    command += [] if args.gradients else ['--head', args.head]
    for option in ('cfg_options', 'local'):
        values = getattr(args, option) or {}
        if values:
            pairs = [f'{key}={value}' for key, value in values.items()]
            command += [f'--{option.replace("_", "-")}', *pairs]
    command += ['--gradients', '--batches', str(args.batches)] if args.gradients else []
    machine = device_name('cuda' if torch.cuda.is_available() else 'cpu')
    if not torch.cuda.is_available():
        machine += f' of {os.cpu_count()} cores ({platform.machine()})'
    return {
        'command': shlex.join(command),
        'machine': machine,
        'versions': ', '.join(f'{key} {value}' for key, value in versions().items()),
        'date': datetime.date.today().isoformat(),
    }
