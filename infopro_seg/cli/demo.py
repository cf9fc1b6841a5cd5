"""Train one network end-to-end and as local modules on drawn scenes, and compare."""

import argparse
import dataclasses
import datetime
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ..bundled import bundled_file
from ..checkpoints.files import write_whole
from ..report.page import legend_of, render_page
from ..report.pictures import save_grid
from ..report.run import Run
from ..report.run_numbers import comparison
from ..report.tables import text_table
from ..report.text_log import read_text_log
from ..study.job import Job, Places, jobs_of
from ..study.matrix import Study, read_study
from ..study.rows import read_rows
from ..study.runner import LOG, run_jobs
from ..version import __version__
from .read_run import read_work_dir
from .run import make_parser

STUDY = 'infopro_seg::studies/demo.yaml'
EXAMPLE = """examples:
  python tools/demo.py
  python tools/demo.py --iterations 20 --out short_demo

Both runs are trained at the same time, on a core each. Stop with Ctrl-C at any time:
the same command goes on. When both are finished, it writes page and pictures again.
"""
_NUM_SAMPLES = 4
_RECONSTRUCTIONS = (
    'What each local head can still read of the image in the map of its module. Look '
    'at small things: where they are blurred, the map has little of them left.'
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, EXAMPLE)
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('demo_output'),
        metavar='FOLDER',
        help='folder of page, pictures, logs and checkpoints; default: demo_output',
    )
    parser.add_argument(
        '--iterations', type=int, metavar='N', help='of each run, for a shorter demo'
    )
    args = parser.parse_args()
    if args.iterations is not None and args.iterations < 1:
        parser.error(f'--iterations {args.iterations}: give 1 or more')
    return args


def main() -> int:
    """Train both, print a table, write the page and the pictures; 1 if one failed."""
    args = parse_args()
    # Of the host, for every network that is built.
    warnings.filterwarnings('ignore', message='Default ``avg_non_ignore``')
    study = _study(args.iterations)
    # Runs of other lengths lie beside these.
    places = Places(args.out, args.out / f'{study.iterations}_iterations')
    jobs = jobs_of(study)
    for name, why in _train(jobs, places).items():
        print(f'failed: {name}: {why}')
        return 1
    now = datetime.datetime.now()
    runs = [
        read_work_dir(
            job.folder(places),
            job.row.name,
            now,
            num_samples=_NUM_SAMPLES,
            predicts=True,
        )
        for job in jobs
    ]
    print(f'\n{table(runs)}\n')
    page = args.out / 'report.html'
    write_whole(render_page(runs, now, __version__).encode(), page)
    for path in (page, *_write_pictures(runs, args.out)):
        print(f'wrote {path}')
    return 0


def table(runs: Sequence[Run]) -> str:
    """The numbers of the runs side by side, as on the page."""
    rows = [('', *(run.name for run in runs))]
    rows += [(label, *cells) for label, cells in comparison(runs)]
    return text_table(rows)


def _study(iterations: int | None) -> Study:
    study = read_study(bundled_file(STUDY))
    if iterations is None:
        return study
    rows = [
        dataclasses.replace(row, iterations=iterations, validation_interval=iterations)
        for row in study.rows
    ]
    return dataclasses.replace(
        study,
        rows=tuple(rows),
        iterations=iterations,
        checkpoint_interval=min(study.checkpoint_interval, iterations),
    )


def _train(jobs: Sequence[Job], places: Places) -> dict[str, str]:
    """Train what is not finished; why runs failed, by their names."""
    waiting = [job for job in jobs if job not in read_rows(jobs, places)]
    if not waiting:
        print(f'both runs are finished; to train them again, delete {places.out}')
        return {}
    print(f'training on drawn street scenes: {" and ".join(j.row.name for j in jobs)}')
    for job in waiting:
        print(f'log: {job.folder(places) / LOG}')
    try:
        with _progress(waiting, places) as watch:
            failed = run_jobs(
                waiting,
                places,
                num_processes=len(waiting),
                tell=lambda *_: None,
                watch=watch,
            )
    except KeyboardInterrupt:
        print('the same command goes on from the last checkpoints')
        raise
    return {job.row.name: why for job, why in failed.items()}


@contextmanager
def _progress(jobs: Sequence[Job], places: Places) -> Iterator[Callable[[], None]]:
    """A bar that shows how far the slowest run is; gives what moves it."""
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn('iterations, '),
        TimeElapsedColumn(),
        TextColumn('gone, '),
        TimeRemainingColumn(),
        TextColumn('left'),
    )
    iterations = jobs[0].study.iterations

    def done() -> int:
        folders = [job.folder(places) for job in jobs]
        return min(read_text_log(folder).iteration for folder in folders)

    # The speed is that of the last minutes.
    with Progress(*columns, speed_estimate_period=180) as progress:
        task = progress.add_task('', total=iterations, completed=done())
        yield lambda: progress.update(task, completed=done())
        progress.update(task, completed=done())


def _write_pictures(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Predictions of both, and reconstructions; the paths of what could be drawn."""
    shown = [run.samples for run in runs if run.samples is not None]
    if len(shown) < len(runs):
        return []
    predictions = folder / 'predictions.png'
    rows = [dict(row) for row in shown[0].rows]
    for run, samples in zip(runs, shown, strict=True):
        for row, own in zip(rows, samples.rows, strict=True):
            row[run.name] = own['prediction']
    columns = ['image', 'label', *(run.name for run in runs)]
    every_row = [row for samples in shown for row in samples.rows]
    legend = legend_of(dataclasses.replace(shown[0], rows=every_row))
    save_grid(rows, columns, predictions, legend=legend)
    reconstructions = folder / 'reconstructions.png'
    last = shown[-1].rows
    modules = [name for name in last[0] if name.startswith('local_')]
    save_grid(last, ['image', *modules], reconstructions, caption=_RECONSTRUCTIONS)
    return [predictions, reconstructions]
