"""The demo at toy size: both methods are trained, compared and drawn."""

import re
import sys

import pytest

from infopro_seg.cli import demo
from infopro_seg.cli.read_run import read_work_dir
from tests.report.run_folders import write_run
from tests.report.test_page import Parsed, read

# Two stages: a prediction of memory takes time for every unit.
SMALL = """
model['backbone'].update(
    num_stages=2, out_indices=(0, 1), strides=(1, 2), dilations=(1, 1))
model['decode_head'].update(in_index=1, in_channels=16)
model['auxiliary_head'] = None
custom_imports = dict(imports=['infopro_seg', 'infopro_seg.benchmark.peak_memory_hook'])
custom_hooks = [dict(type='LocalTrainingHook'), dict(type='PeakMemoryHook')]
"""


@pytest.fixture
def run_demo(content, write, in_process, monkeypatch, tmp_path):
    """Runs the demo on a toy study; returns its exit code."""
    content['iterations'] = content['validation_interval'] = 3
    content['checkpoint_interval'] = 3
    content['seeds'] = [0]
    content['rows'][1]['name'] = 'local modules'
    config = tmp_path / 'toy.py'
    config.write_text(config.read_text() + SMALL)
    monkeypatch.setattr(demo, 'STUDY', write(content))
    monkeypatch.setattr(demo, 'bundled_file', lambda path: path)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))

    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['demo.py', *args])
        return demo.main()

    run.commands, run.out = in_process, tmp_path / 'shown'
    return run


def cells(text, label):
    """The cells of a row of the printed table, in which columns are apart."""
    (line,) = re.findall(rf'^{re.escape(label)} +(.*)$', text, re.MULTILINE)
    return re.split(r'\s{2,}', line.strip())


@pytest.mark.exhaustive
def test_both_methods_are_compared_on_the_terminal_and_on_the_page(
    run_demo, monkeypatch, capsys
):
    assert run_demo('--out', str(run_demo.out)) == 0
    said = capsys.readouterr().out
    names = ['end-to-end', 'local modules']
    assert re.search(rf'^ +{"  +".join(names)}$', said, re.MULTILINE)
    predicted = cells(said, 'predicted peak memory')
    measured = cells(said, 'measured peak memory')
    for label in ('last mIoU (%)', 'time of a step', 'classes above 10 % IoU'):
        assert len(cells(said, label)) == 2, label
    assert all(re.fullmatch(r'\d+ MiB', x) for x in (*predicted, *measured))
    page = Parsed((run_demo.out / 'report.html').read_text()).text
    assert f'measured peak memory {" ".join(measured)}' in page
    assert f'predicted peak memory {" ".join(predicted)}' in page
    for name in ('predictions.png', 'reconstructions.png'):
        assert (run_demo.out / name).read_bytes().startswith(b'\x89PNG')
    assert len(run_demo.commands) == 2
    # A second start trains nothing.
    monkeypatch.setattr(demo, 'run_jobs', None)
    monkeypatch.setattr(demo, 'read_work_dir', no_samples)
    assert run_demo('--out', str(run_demo.out)) == 0
    again = capsys.readouterr().out
    assert 'both runs are finished' in again
    assert cells(again, 'last mIoU (%)') == cells(said, 'last mIoU (%)')


def no_samples(folder, name, now, **_):
    """A run without what takes time to find out."""
    return read_work_dir(folder, name, now)


def test_the_table_is_that_of_the_page(tmp_path):
    runs = [
        read(write_run(tmp_path / 'a'), 'end-to-end'),
        read(write_run(tmp_path / 'b', miou=41.5), 'local modules'),
    ]
    text = demo.table(runs)
    assert text.splitlines()[0].split() == ['end-to-end', 'local', 'modules']
    assert cells(text, 'last mIoU (%)') == ['43.21 (at 20)', '41.50 (at 20)']
    assert cells(text, 'classes above 10 % IoU') == ['1 of 1', '1 of 1']
    assert cells(text, 'state') == ['finished', 'finished']


def test_an_interruption_says_how_to_go_on(run_demo, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, 'run_jobs', interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_demo('--out', str(run_demo.out))
    assert 'the same command goes on' in capsys.readouterr().out


def test_a_run_that_fails_is_told(run_demo, monkeypatch, capsys):
    monkeypatch.setattr(
        demo, 'run_jobs', lambda jobs, *_, **__: {jobs[1]: 'no memory (train.log)'}
    )
    assert run_demo('--out', str(run_demo.out)) == 1
    said = capsys.readouterr().out
    assert 'failed: local modules: no memory (train.log)' in said


def test_a_length_below_one_is_refused(run_demo, capsys):
    with pytest.raises(SystemExit):
        run_demo('--iterations', '0')
    assert '--iterations 0: give 1 or more' in capsys.readouterr().err


def test_the_demo_of_the_package_has_both_methods():
    rows = demo._study(None).rows
    assert [len(row.local['splits']) for row in rows] == [0, 1]
    assert len({row.config for row in rows}) == 1
    short = demo._study(7)
    assert (short.iterations, short.checkpoint_interval) == (7, 7)
    lengths = {(row.iterations, row.validation_interval) for row in short.rows}
    assert lengths == {(7, 7)}
