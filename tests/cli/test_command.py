"""The command infopro-seg: every tool by one name, in the words of who types it."""

import subprocess
import sys
from pathlib import Path

import pytest

from infopro_seg.cli.run import as_typed, this_command
from infopro_seg.version import __version__
from infopro_seg_command import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]
# They measure and draw what the documentation says.
FOR_DEVELOPERS = {
    'check_predictions',
    'compare_probes',
    'compare_rows',
    'draw_dial',
    'draw_overview',
    'pipeline_batch',
    'pipeline_speed',
    'price_list',
}


def typed(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['/bin/infopro-seg', *arguments])
    return main()


def test_every_tool_is_a_command():
    tools = {path.stem for path in (ROOT / 'tools').rglob('[a-z]*.py')}
    assert tools - FOR_DEVELOPERS == set(COMMANDS.values())


@pytest.mark.parametrize('arguments', [(), ('-h',), ('--help',)])
def test_commands_are_listed_with_what_they_do(monkeypatch, capsys, arguments):
    assert typed(monkeypatch, *arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = lines[lines.index('commands:') + 1 :]
    assert [line.split()[0] for line in listed] == list(COMMANDS)
    assert all(line.endswith(('.', 'request.')) for line in listed)
    assert '  train                Train a segmentation network, as local' in lines[6]


def test_the_list_needs_nothing_of_the_package():
    code = (
        'import sys; from infopro_seg_command import main; main(); '
        'assert not {"infopro_seg", "torch"} & {*sys.modules}'
    )
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True)


def test_an_unknown_command_is_one_sentence_with_the_nearest(monkeypatch, capsys):
    assert typed(monkeypatch, 'trian', 'config.py') == 2
    assert capsys.readouterr().err == (
        "infopro-seg: there is no command 'trian'; did you mean 'train'? infopro-seg "
        '--help lists them.\n'
    )
    assert typed(monkeypatch, '--jobs') == 2
    assert "'--jobs'; infopro-seg --help lists" in capsys.readouterr().err


def test_the_version(monkeypatch, capsys):
    assert typed(monkeypatch, '--version') == 0
    assert capsys.readouterr().out == f'infopro-seg {__version__}\n'


def test_a_command_gets_its_arguments_and_gives_the_exit_code(monkeypatch):
    seen = []

    def command():
        seen.extend(sys.argv)
        return 3

    monkeypatch.setattr('infopro_seg.cli.export_model.main', command)
    assert typed(monkeypatch, 'export', 'a.py', '--force') == 3
    assert seen == ['infopro-seg export', 'a.py', '--force']


@pytest.mark.parametrize('name', COMMANDS)
def test_help_is_in_words_of_the_command(monkeypatch, capsys, name):
    with pytest.raises(SystemExit, match='0'):
        typed(monkeypatch, name, '--help')
    said = capsys.readouterr().out
    assert said.startswith(f'usage: infopro-seg {name} ')
    assert 'tools/' not in said
    assert 'configs/' not in said


def test_errors_and_warnings_too(monkeypatch, capsys):
    def command():
        raise ValueError(
            'make it with "python tools/export_model.py A"; tools/plan.py is another, '
            'and /my/tools/plan.py, tools/planet.py and configs/a.py are files.'
        )

    monkeypatch.delenv('INFOPRO_SEG_DEBUG', raising=False)
    monkeypatch.setattr('infopro_seg.cli.plan.main', command)
    assert typed(monkeypatch, 'plan') == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        'ValueError: make it with "infopro-seg export A"; infopro-seg plan is another, '
        'and /my/tools/plan.py, tools/planet.py and configs/a.py are files.'
    )


def test_what_is_saved_beside_numbers_can_be_typed_again(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['infopro-seg plan', 'a b.py', '--exact'])
    assert this_command('python tools/plan.py') == "infopro-seg plan 'a b.py' --exact"
    monkeypatch.setattr(sys, 'argv', ['/x/tools/plan.py', 'a.py'])
    assert this_command('python tools/plan.py') == 'python tools/plan.py a.py'
    assert as_typed('tools/plan.py') == 'tools/plan.py'


def test_what_is_missing_is_said_in_one_sentence(monkeypatch, capsys):
    monkeypatch.delenv('INFOPRO_SEG_DEBUG', raising=False)
    monkeypatch.setitem(sys.modules, 'infopro_seg.cli.run', None)
    assert typed(monkeypatch, 'plan', 'a.py') == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('ImportError: ')
    with pytest.raises(ImportError):
        typed(monkeypatch, 'plan', 'a.py', '--debug')
