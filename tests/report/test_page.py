"""The page of a report says what the run logged, and nothing it could be harmed by."""

import dataclasses
import datetime
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from infopro_seg.cli.read_run import read_work_dir
from infopro_seg.report.page import render_page
from infopro_seg.report.run import Network, NetworkModule, Samples
from infopro_seg.settings.plan import Plan, PlannedModule

from .run_folders import (
    SOON,
    START,
    losses,
    scores,
    step_line,
    write_attempt,
    write_run,
)

MIB = 2**20


class Parsed(HTMLParser):
    """The text, the ids and what is loaded of a page."""

    def __init__(self, page):
        super().__init__()
        self.words, self.ids, self.open, self.sources = [], [], [], []
        self.feed(page)
        self.text = ' '.join(' '.join(self.words).split())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.open.append(tag)
        if 'id' in attrs:
            self.ids.append(attrs['id'])
        link = attrs.get('href', '')
        found = [attrs.get('src'), link if not link.startswith('#') else None]
        self.sources += [source for source in found if source]

    def handle_data(self, data):
        if self.open and self.open[-1] == 'style':
            return
        self.words.append(data)

    def handle_endtag(self, tag):
        self.open = [t for t in self.open if t not in ('style',)]


def read(folder, name='a run', now=SOON):
    return read_work_dir(folder, name, now)


def page_of(*runs):
    return render_page(runs, SOON, '1.2.3')


def planned(name, peak, share):
    return PlannedModule(
        name=name,
        units=('stem', 'layer1.0'),
        num_units=2,
        parameter_bytes=0,
        head_parameter_bytes=0,
        start_bytes=100 * MIB,
        activation_bytes=40 * MIB,
        head_bytes=10 * MIB,
        peak_bytes=peak,
        share=share,
        recompute=(),
        extra_flops=0.0,
    )


PLAN = Plan(
    splits=('layer1.0',),
    recompute=(),
    predicted_peak_bytes=200 * MIB,
    end_to_end_peak_bytes=400 * MIB,
    flops_ratio=1.25,
    batch_size=4,
    crop_size=(64, 128),
    modules=(planned('local_0', 200 * MIB, 0.5), planned('local_1', 160 * MIB, 0.4)),
    end_to_end=planned('local_0', 400 * MIB, 1.0),
)
NETWORK = Network(
    'ResNet 18 with FCNHead',
    (
        NetworkModule('local_0', ('stem', 'layer1.0'), {'stem': 'stem:stepwise'}),
        NetworkModule('local_1', ('layer2.0',), heads=('decode head: FCNHead',)),
    ),
)


def test_the_numbers_are_those_of_the_log(tmp_path):
    text = Parsed(page_of(read(write_run(tmp_path)))).text
    # At iteration 20 all losses are 10 / 25 of those in `losses`.
    for shown in (
        'finished',
        '20 of 20 iterations',
        'mIoU 43.21 % at iteration 20',
        '0.5 s',
        '0.125 s of it waiting for data',
        'local_0 0.3 local_1 0.25',  # reconstruction
        'local_0 0.6 local_1 0.5',  # segmentation
        'decode.loss_ce 0.45',
        'lr 0.01',
        'road 61.25',
        'car nan',
        'Python 3.11.7 (main)',
    ):
        assert shown in text


def test_a_run_that_goes_on_says_how_far_it_is(tmp_path):
    page = page_of(read(write_run(tmp_path, most=40, done=10)))
    text = Parsed(page).text
    assert 'running 10 of 40 iterations' in text
    assert 'About 1 day, 0:00:40 left' in text
    assert 'aria-valuenow="25"' in page
    assert 'No mIoU is logged yet' in text


def test_a_run_that_was_killed_is_stopped(tmp_path):
    write_run(tmp_path, most=40, done=10)
    log = tmp_path / '20260102_030000/vis_data/scalars.json'
    log.write_text(log.read_text() + '\n{"loss": 2.')
    later = START + datetime.timedelta(days=3)
    text = Parsed(page_of(read(tmp_path, now=later))).text
    assert 'stopped 10 of 40 iterations' in text
    assert '2 days ago' in text


def test_a_resumed_run_is_one_run(tmp_path):
    write_run(tmp_path, most=40, done=20)
    second = START + datetime.timedelta(minutes=10)
    lines = [step_line(i, 40, i, start=second) for i in (15, 20, 25)]
    entries = [losses(i, 2.0) for i in (15, 20, 25)]
    write_attempt(tmp_path, '20260102_031000', lines, entries)
    text = Parsed(page_of(read(tmp_path, now=second))).text
    assert 'running 25 of 40 iterations' in text
    assert f'Started 2 times, last at {second + datetime.timedelta(seconds=15)}' in text
    assert 'decode.loss_ce 2.25' in text


def test_losses_that_are_not_finite_are_said(tmp_path):
    entries = [losses(5), {**losses(10), 'decode.loss_ce': math.nan}]
    write_attempt(tmp_path, '20260102_030000', [step_line(10, 40, 1)], entries)
    text = Parsed(page_of(read(tmp_path))).text
    assert 'decode.loss_ce is not finite at iteration 10' in text
    assert 'decode.loss_ce nan' in text


def test_a_run_without_a_logged_step_has_a_page(tmp_path):
    (tmp_path / 'config.py').write_text('train_cfg = dict(max_iters=80)\n')
    text = Parsed(page_of(read(tmp_path))).text
    assert 'not started 0 of 80 iterations' in text
    assert 'No loss is logged yet' in text
    assert 'The network cannot be shown' in text
    assert 'Samples were left out (--samples 0)' in text


def test_what_comes_from_files_is_escaped(tmp_path):
    evil = '<script>alert(1)</script>"\''
    write_run(tmp_path, config=f'# {evil}\nwork_dir = "</pre><b>"\n')
    extra = {**losses(25), f'{evil}.loss_ce': 1.0, f'IoU.{evil}': 3.0}
    message = step_line(25, 40, 1).replace('INFO - Iter', f'ERROR - {evil} Iter')
    write_attempt(tmp_path, '20260103_030000', [message], [extra])
    run = read(tmp_path, name=evil)
    run.network = dataclasses.replace(NETWORK, title=evil)
    run.samples = Samples([picture_row()], [(evil, (7, 7, 7))], evil)
    run.missing['plan'] = evil
    page = page_of(run)
    assert '<script' not in page
    assert '</pre><b>' not in page
    assert Parsed(page).text.count('<script>alert(1)') >= 8


def picture_row():
    label = np.zeros((8, 16, 3), np.uint8)
    label[:, 8:] = 7
    return {'image': label + 90, 'label': label, 'prediction': label, 'local_0': label}


def test_pictures_are_in_the_page_with_the_classes_they_show(tmp_path):
    run = read(write_run(tmp_path))
    classes = [('road', (0, 0, 0)), ('car', (7, 7, 7)), ('bus', (9, 9, 9))]
    run.samples = Samples([picture_row()] * 2, classes, 'iter_20.pth')
    page = page_of(run)
    assert page.count('src="data:image/webp;base64,') == 8
    assert 'alt="prediction of sample 2"' in page
    legend = page[page.index('aria-label="classes"') :]
    assert 'rgb(7, 7, 7)' in legend
    assert 'bus' not in legend


def test_units_walls_and_heads_are_a_row(tmp_path):
    run = read(write_run(tmp_path))
    run.network = NETWORK
    text = Parsed(page_of(run)).text
    assert 'local_0 2 units stem:stepwise ↻ layer1.0 no head wall' in text
    assert 'local_1 1 unit layer2.0 decode head: FCNHead' in text
    assert 'splits layer1.0' in text


@pytest.mark.parametrize(
    ('period', 'said', 'between'),
    [(1, 'Every step is exact', 'map kept'), (4, 'except in every 4th step', 'wall')],
)
def test_exact_steps_are_said(tmp_path, period, said, between):
    run = read(write_run(tmp_path))
    run.network = dataclasses.replace(NETWORK, end_to_end_every=period)
    text = Parsed(page_of(run)).text
    assert said in text
    assert f'no head {between} local_1' in text


def test_memory_is_predicted_beside_end_to_end_and_measured(tmp_path):
    entry = {
        **losses(5),
        'memory': 210,
        'local_0.saved_gib': 48 / 1024,
        'local_0.peak_allocated_gib': 198 / 1024,
    }
    write_attempt(tmp_path, 'a', [step_line(5, 40, 1)], [entry])
    run = read(tmp_path)
    run.plan, run.network = PLAN, NETWORK
    text = Parsed(page_of(run)).text
    assert 'measured peak memory 210 MiB' in text
    assert 'predicted peak memory 200 MiB 50 % of end-to-end (400 MiB)' in text
    assert 'end-to-end 400 MiB 100 % - 50 MiB -' in text
    assert 'local_0 200 MiB 50 % 198 MiB 50 MiB 48 MiB' in text
    assert 'local_1 160 MiB 40 % - 50 MiB -' in text
    assert '4 images of 64x128 in float32' in text


def test_bars_are_as_long_as_the_peaks(tmp_path):
    run = read(write_run(tmp_path))
    run.plan = PLAN
    bars = re.findall(r'<div class="bar" role="img".*?</div>', page_of(run))
    widths = [sum(map(float, re.findall(r'width: ([\d.]+)%', bar))) for bar in bars]
    assert widths == pytest.approx([100, 50, 40], abs=0.05)


def test_runs_are_compared_side_by_side(tmp_path):
    one = read(write_run(tmp_path / 'one'), 'one')
    two = read(write_run(tmp_path / 'two', scale=2.0, miou=41.5), 'two')
    one.plan, one.network = PLAN, NETWORK
    page = page_of(one, two)
    text = Parsed(page).text
    assert 'last mIoU (%) 43.21 (at 20) 41.50 (at 20)' in text
    assert 'predicted peak memory 200 MiB -' in text
    assert 'of end-to-end training 50 % -' in text
    assert 'predicted FLOPs (end-to-end: 1) 1.25 -' in text
    assert 'road 61.25 61.25' in text
    assert 'one 0.45 two 0.9' in text  # losses of the decode heads
    assert 'href="#run1"' in page


def test_one_run_is_not_compared(tmp_path):
    assert 'Comparison' not in page_of(read(write_run(tmp_path)))


def test_the_page_needs_no_other_file_and_its_ids_are_unique(tmp_path):
    runs = [read(write_run(tmp_path / name), name) for name in ('one', 'two')]
    page = page_of(*runs)
    parsed = Parsed(page)
    assert all(source.startswith('data:') for source in parsed.sources)
    assert not re.search(r'url\((?!#)|@import|https?://', page)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert "default-src 'none'" in page
    assert page.startswith('<!doctype html>')


def test_curves_take_the_colours_of_the_page(tmp_path):
    page = page_of(read(write_run(tmp_path)))
    svg = page[page.index('<svg') : page.index('</svg>')]
    assert 'var(--s0)' in svg
    assert 'currentColor' in svg
    assert not re.search(r'#[0-9a-f]{6}\b', svg)
    assert (
        'role="img" aria-label="Reconstruction loss of the local heads (loss): ' in svg
    )


def test_of_many_values_the_means_are_drawn_over_a_shade(tmp_path):
    entries = [losses(i, 1 + 0.5 * (-1) ** i) for i in range(1, 1001)]
    write_attempt(tmp_path, 'a', [step_line(1000, 1000, 1)], entries)
    page = page_of(read(tmp_path))
    svg = page[page.index('<svg') : page.index('</svg>')]
    shades = [line for line in svg.splitlines() if 'stroke-opacity: 0.25' in line]
    assert len(shades) == 2  # one a module
    assert 'local_0 1.125' in Parsed(page).text  # the last value, not a mean


def test_scores_of_an_earlier_validation_can_be_the_best(tmp_path):
    entries = [losses(5), scores(5, 50.0), losses(10), scores(10, 40.0)]
    write_attempt(tmp_path, 'a', [step_line(10, 10, 1)], entries)
    text = Parsed(page_of(read(tmp_path))).text
    assert 'mIoU 40.00 % at iteration 10; best 50.00 % at 5' in text
