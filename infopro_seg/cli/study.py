"""Train methods side by side, paired over seeds, and report their scores."""

import argparse
import datetime
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from ..bundled import bundled_file, is_bundled
from ..report.tables import text_table
from ..study.checks import check_jobs
from ..study.estimate import dry_run_rows, hours_left
from ..study.job import Job, Places, jobs_of
from ..study.matrix import Study, read_study
from ..study.page import write_report
from ..study.rows import Record, read_rows
from ..study.runner import run_jobs
from .check_model import check_model
from .run import as_typed, make_parser

EXAMPLE = """example:
  python tools/study.py configs/studies/camvid_mobilenetv2.yaml \\
      --data-root CAMVID --weights mobilenet_v2_imagenet.pth

Stop it at any time: the same command goes on. Finished runs are files in
RESULTS/NAME/rows, which is all that another machine needs to go on behind them.
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; None means that of the process."""
    parser = make_parser(__doc__, EXAMPLE)
    parser.add_argument(
        'study', help='study file (.yaml), or infopro_seg::studies/NAME'
    )
    parser.add_argument('--data-root', help='root folder of the data')
    parser.add_argument('--weights', metavar='FILE', help='pretrained weights')
    parser.add_argument(
        '--out',
        type=Path,
        help='folder of logs and checkpoints; default: work_dirs/studies/NAME',
    )
    parser.add_argument(
        '--results',
        type=Path,
        default=Path('results'),
        help='folder of report and rows; default: results',
    )
    parser.add_argument(
        '--rows', nargs='+', metavar='ROW', help='only these; default: all'
    )
    parser.add_argument(
        '--jobs',
        type=int,
        metavar='N',
        help='runs at a time; default: one for each core, with a GPU one',
    )
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument(
        '--dry-run', action='store_true', help='print the matrix and the hours'
    )
    modes.add_argument(
        '--report', action='store_true', help='only write the report, train nothing'
    )
    args = parser.parse_args(argv)
    if args.jobs is not None and args.jobs < 1:
        parser.error('--jobs must be above 0')
    if args.weights is not None and not Path(args.weights).is_file():
        parser.error(f'--weights {args.weights} does not exist')
    return args


def main(argv: list[str] | None = None) -> int:
    """Train what is left, write the report; 1 if a run failed."""
    args = parse_args(argv)
    # Of the host, for every network that is built.
    warnings.filterwarnings('ignore', message='Default ``avg_non_ignore``')
    study = read_study(_path(args.study))
    out = args.out or Path('work_dirs/studies') / study.name
    places = Places(out, args.results, args.data_root, args.weights)
    jobs = jobs_of(study, args.weights)
    finished = read_rows(jobs, places)
    chosen = _chosen(study, jobs, args.rows)
    num_jobs = args.jobs or _default_jobs()
    if args.dry_run:
        _print_matrix(study, chosen, finished, num_jobs)
        return 0
    failed: dict[Job, str] = {}
    if not args.report:
        check_jobs(study, places, check_model)
        failed = _train(chosen, places, finished, num_jobs)
    for job, why in failed.items():
        print(f'failed: {job.name}: {why}')
    finished = read_rows(jobs, places)
    if failed and not finished:
        return 1
    print(write_report(study, finished, places, _command(args, study)))
    print(f'wrote {places.results / study.name}.md')
    return int(bool(failed))


def _path(study: str) -> Path:
    return bundled_file(study) if is_bundled(study) else Path(study)


def _command(args: argparse.Namespace, study: Study) -> str:
    """By which anyone makes the numbers again; folders are theirs."""
    command = f'{as_typed("python tools/study.py")} {args.study}'
    command += ' --data-root DATA' if args.data_root else ''
    return command + (' --weights FILE' if study.pretrained else '')


def _default_jobs() -> int:
    if torch.cuda.is_available():
        return 1
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _chosen(study: Study, jobs: Sequence[Job], rows: list[str] | None) -> list[Job]:
    names = [study.row(name).name for name in rows or []]
    return [job for job in jobs if not names or job.row.name in names]


def _train(
    jobs: Sequence[Job], places: Places, finished: dict[Job, Record], num_jobs: int
) -> dict[Job, str]:
    """Train, with a line for every run that was finished."""
    finished = dict(finished)

    def tell(job: Job, record: Record) -> None:
        finished[job] = record
        done = sum(job in finished for job in jobs)
        print(
            f'{done}/{len(jobs)} {job.name}: mIoU {record["miou"]:.2f}, '
            f'{record["run_seconds"] / 60:.1f} min{_eta(jobs, finished, num_jobs)}',
            flush=True,
        )

    done = sum(job in finished for job in jobs)
    print(f'{done} of {len(jobs)} runs are finished; {num_jobs} at a time', flush=True)
    return run_jobs(jobs, places, num_processes=num_jobs, tell=tell)


def _eta(jobs: Sequence[Job], finished: dict[Job, Record], num_jobs: int) -> str:
    hours = hours_left(jobs, finished, num_jobs)
    if not hours:
        return ''
    end = datetime.datetime.now() + datetime.timedelta(hours=hours)
    return f'; {hours:.1f} h left, until {end:%a %H:%M}'


def _print_matrix(
    study: Study, jobs: Sequence[Job], finished: dict[Job, Record], num_jobs: int
) -> None:
    names = {job.row.name for job in jobs}
    header = ('row', 'seeds', 'done', 'left', 's per iteration', 'hours left')
    rows = [row for row in dry_run_rows(study, jobs, finished) if row[0] in names]
    print(text_table([header, *rows], left=2))
    hours = hours_left(jobs, finished, num_jobs)
    left = sum(job not in finished for job in jobs)
    told = 'unknown; set seconds_per_iteration' if hours is None else f'{hours:.1f}'
    print(f'\n{left} runs left, {num_jobs} at a time; hours: {told}')
