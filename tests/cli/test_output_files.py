"""A file that cannot be written is told before any work is done for it."""

import argparse
import importlib
import sys

import pytest

from infopro_seg.cli.run import output_file, picture_file

#: Every argument that names a file to write, with what else its command needs.
ARGUMENTS = {
    'benchmark --json': ['c.py', '--json', 'FILE'],
    'classify_models --json': ['--json', 'FILE'],
    'draw_dial': ['FILE'],
    'draw_overview': ['b.json', 's.json', 'FILE'],
    'evaluate_cityscapes --json': ['root', 'predictions', '--json', 'FILE'],
    'export_model': ['c.py', 'a.pth', 'FILE'],
    'localize': ['c.py', 'FILE'],
    'memory_table --json': ['--json', 'FILE'],
    'pipeline_speed --json': ['--json', 'FILE'],
    'pipeline_speed --picture': ['--picture', 'FILE'],
    'pipeline_speed --trace': ['--trace', 'FILE'],
    'plan --out': ['c.py', '--num-modules', '2', '--out', 'FILE'],
    'plan --plot': ['c.py', '--num-modules', '2', '--plot', 'FILE'],
    'plot_benchmark': ['b.json', 'FILE'],
    'price_list --out': ['s.json', '--out', 'FILE'],
    'report --out': ['work_dir', '--out', 'FILE'],
    'test --json': ['c.py', 'a.pth', '--json', 'FILE'],
}
PICTURES = ('draw_dial', 'draw_overview', 'pipeline_speed --picture', 'plan --plot')
PICTURES = (*PICTURES, 'plot_benchmark')


def stopped(monkeypatch, capsys, name, path):
    """What a command says of a file to write, and nothing but that."""
    command, arguments = name.partition(' ')[0], ARGUMENTS[name]
    module = importlib.import_module(f'infopro_seg.cli.{command}')
    filled = [str(path) if text == 'FILE' else text for text in arguments]
    monkeypatch.setattr(sys, 'argv', [command, *filled])
    with pytest.raises(SystemExit) as raised:
        module.main()
    assert raised.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize('name', ARGUMENTS)
def test_a_folder_that_cannot_be_made_stops_a_command(
    monkeypatch, capsys, tmp_path, name
):
    (tmp_path / 'taken').write_text('a file')
    path = tmp_path / 'taken/new/x.png'
    assert 'cannot be made' in stopped(monkeypatch, capsys, name, path)


@pytest.mark.parametrize('name', PICTURES)
def test_a_picture_of_an_unknown_format_stops_a_command(
    monkeypatch, capsys, tmp_path, name
):
    said = stopped(monkeypatch, capsys, name, tmp_path / 'x.docx')
    assert 'x.docx is no picture' in said
    assert '.png' in said


def test_a_missing_folder_is_made(tmp_path):
    path = tmp_path / 'a/b/scores.json'
    assert output_file(str(path)) == path
    assert path.parent.is_dir()
    assert not path.exists()
    assert picture_file(str(tmp_path / 'c/x.PNG')).parent.is_dir()


def test_an_existing_file_is_left_to_the_command(tmp_path):
    path = tmp_path / 'plan.json'
    path.write_text('earlier')
    assert output_file(str(path)).read_text() == 'earlier'


@pytest.mark.parametrize('text', ['', '.', '..'])
def test_a_folder_is_no_file(text):
    with pytest.raises(argparse.ArgumentTypeError, match='is a folder; name a file'):
        output_file(text)


def test_a_file_that_may_not_be_written_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr('os.access', lambda *_: False)
    with pytest.raises(argparse.ArgumentTypeError, match='x.json may not be written'):
        output_file(str(tmp_path / 'x.json'))
