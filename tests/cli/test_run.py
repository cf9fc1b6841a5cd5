"""What a user sees of an error: one sentence, last, and exit code 1."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from infopro_seg.cli import benchmark, plan
from infopro_seg.cli.run import KeyValues, make_parser, run

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = sorted(
    path
    for folder in ('tools', 'tools/analysis')
    for path in (ROOT / folder).glob('[a-z]*.py')
)


def failing(monkeypatch, error, *args):
    """Run a command that raises."""

    def main():
        raise error

    monkeypatch.setattr('infopro_seg.cli.draw_dial.main', main)
    monkeypatch.setattr(sys, 'argv', ['draw_dial.py', *args])
    monkeypatch.delenv('INFOPRO_SEG_DEBUG', raising=False)
    return run('draw_dial')


@pytest.mark.parametrize(
    ('error', 'last'),
    [
        (ValueError('num_modules=0 is wrong.'), 'ValueError: num_modules=0 is wrong.'),
        (KeyError('X is not registered.'), 'KeyError: X is not registered.'),
        (FileNotFoundError('no a.py'), 'FileNotFoundError: no a.py'),
    ],
    ids=repr,
)
def test_an_error_is_the_last_line(monkeypatch, capsys, error, last):
    assert failing(monkeypatch, error) == 1
    said = capsys.readouterr().err
    assert said.splitlines()[-1] == last
    assert 'Traceback' not in said


def test_an_error_without_a_message_says_where(monkeypatch, capsys):
    assert failing(monkeypatch, AssertionError()) == 1
    assert 'AssertionError: in main, line' in capsys.readouterr().err


def test_debug_shows_the_traceback(monkeypatch):
    with pytest.raises(ValueError, match='wrong'):
        failing(monkeypatch, ValueError('wrong'), '--debug')


@pytest.mark.parametrize(('value', 'is_raised'), [('1', True), ('off', False)])
def test_so_does_the_variable(monkeypatch, value, is_raised):
    error = ValueError('wrong')
    monkeypatch.setattr(sys, 'argv', ['draw_dial.py'])

    def main():
        raise error

    monkeypatch.setattr('infopro_seg.cli.draw_dial.main', main)
    monkeypatch.setenv('INFOPRO_SEG_DEBUG', value)
    if is_raised:
        with pytest.raises(ValueError, match='wrong'):
            run('draw_dial')
    else:
        assert run('draw_dial') == 1


def test_an_interruption_has_its_own_exit_code(monkeypatch, capsys):
    assert failing(monkeypatch, KeyboardInterrupt()) == 130
    assert 'interrupted' in capsys.readouterr().err


def parse(*args):
    parser = make_parser('Test.', '')
    parser.add_argument('--local', nargs='+', action=KeyValues)
    return parser.parse_args(args)


def test_settings_given_twice_add_up():
    args = parse('--local', 'a=1', 'b=[x,y]', '--local', 'c.d=2')
    assert args.local == {'a': 1, 'b': ['x', 'y'], 'c.d': 2}


def test_a_setting_without_a_value_says_how_to_write_it(capsys):
    with pytest.raises(SystemExit):
        parse('--local', 'num_modules')
    assert 'num_modules: write KEY=VALUE' in capsys.readouterr().err


@pytest.mark.parametrize('path', COMMANDS, ids=lambda path: path.stem)
def test_every_tool_has_help_with_debug_and_says_nothing_else(path, monkeypatch, capfd):
    monkeypatch.setattr(sys, 'argv', [str(path), '--help'])
    monkeypatch.setattr(sys, 'path', [*sys.path])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name='__main__')
    assert not ended.value.code
    out, err = capfd.readouterr()
    assert out.startswith(f'usage: {path.name}')
    assert '--debug' in out
    assert err == ''


def test_a_tool_in_a_process_of_its_own_says_nothing_else():
    done = subprocess.run(
        [sys.executable, str(ROOT / 'tools' / 'train.py'), '--help'],
        capture_output=True,
        text=True,
        cwd='/',
        check=True,
    )
    assert done.stdout.startswith('usage: train.py')
    assert done.stderr == ''


def parsed(monkeypatch, command, *args):
    monkeypatch.setattr(sys, 'argv', ['tool.py', 'config.py', *args])
    return command.parse_args()


@pytest.mark.parametrize(
    ('text', 'num_bytes'),
    [
        ('0', 0),
        ('0GiB', 0),
        ('0.0 GB', 0),
        ('1GiB', 2**30),
        ('512 MiB', 2**29),
        (None, plan.RESERVE_BYTES),
    ],
)
def test_the_reserve_may_be_nothing(monkeypatch, text, num_bytes):
    reserve = () if text is None else ('--reserve', text)
    args = parsed(monkeypatch, plan, '--num-modules', '2', *reserve)
    assert args.reserve == num_bytes
    assert parsed(monkeypatch, benchmark, *reserve).reserve == num_bytes


@pytest.mark.parametrize('text', ['some', '-1GiB', '1', '', 'nan', '0x'])
def test_a_reserve_that_is_no_memory_is_refused(monkeypatch, capsys, text):
    with pytest.raises(SystemExit):
        parsed(monkeypatch, plan, '--num-modules', '2', f'--reserve={text}')
    assert f"--reserve: reserve='{text}'" in capsys.readouterr().err


def test_the_limit_of_the_warm_up_is_in_the_help(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        parsed(monkeypatch, benchmark, '--warmup', '1')
    assert '--warmup at least 2' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parsed(monkeypatch, benchmark, '--help')
    said = ' '.join(capsys.readouterr().out.split())
    assert 'untimed steps before them, at least 2' in said
