"""Runs a command; a user's mistake ends in one sentence and exit code 1."""

import argparse
import importlib
import os
import re
import shlex
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

from infopro_seg_command import COMMANDS, PROGRAM

#: Of the argument of commands that read a config.
CONFIG_HELP = 'config file (.py), infopro_seg::NAME or mmseg::NAME'
_DEBUG = '--debug'
_DEBUG_VARIABLE = 'INFOPRO_SEG_DEBUG'
_OFF = ('', '0', 'false', 'no', 'off')


def run(command: str) -> int:
    """Run a command with the arguments of the process.

    Args:
        command: A module of this package that has a ``main``.

    Returns:
        The exit code: that of the command, 1 after an error, 130 after Ctrl-C.
    """
    warnings.formatwarning = _one_line
    try:
        module = importlib.import_module(f'{__package__}.{command}')
        return module.main() or 0
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130
    except Exception as error:
        if is_debugging():
            raise
        _print_error(error)
        return 1


def is_debugging() -> bool:
    """Whether errors are shown with a traceback."""
    is_set = os.environ.get(_DEBUG_VARIABLE, '').lower() not in _OFF
    return is_set or _DEBUG in sys.argv


def make_parser(doc: str | None, example: str) -> argparse.ArgumentParser:
    """Make a parser with what all commands share.

    Args:
        doc: What the command does, in a sentence.
        example: Text below the arguments in ``--help``.
    """
    if _is_program():
        example = as_typed(example).replace(' configs/', ' infopro_seg::')
    parser = argparse.ArgumentParser(
        prog=os.path.basename(sys.argv[0]),
        description=doc,
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        _DEBUG,
        action='store_true',
        help=f'show where an error comes from (or set {_DEBUG_VARIABLE}=1)',
    )
    return parser


def as_typed(text: str) -> str:
    """Call commands in a text as this one was called: tools/X.py, or infopro-seg X."""
    if not _is_program():
        return text
    for name, module in COMMANDS.items():
        tool = rf'(?<![\w./-])(?:python )?tools/(?:analysis/)?{module}\.py\b'
        text = re.sub(tool, f'{PROGRAM} {name}', text)
    return text


def this_command(tool: str) -> str:
    """The command line of this process, to be typed again.

    Args:
        tool: Its beginning in a checkout, such as ``python tools/plan.py``.
    """
    return ' '.join([as_typed(tool), shlex.join(sys.argv[1:])])


def _is_program() -> bool:
    return sys.argv[0].startswith(f'{PROGRAM} ')


class KeyValues(argparse.Action):
    """Settings as KEY=VALUE, read as mmengine reads ``--cfg-options``."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Add the settings to those given before."""
        from mmengine.config import DictAction

        for value in values:
            if '=' not in value:
                parser.error(
                    f'{option_string} {value}: write KEY=VALUE, without spaces around '
                    'the equals sign.'
                )
        earlier = dict(getattr(namespace, self.dest, None) or {})
        DictAction(self.option_strings, self.dest, nargs='+')(
            parser, namespace, values, option_string
        )
        setattr(namespace, self.dest, {**earlier, **getattr(namespace, self.dest)})


def reserve_bytes(text: str) -> int:
    """Read an amount of memory to set aside, in bytes; it may be ``0`` or ``0GiB``.

    Raises:
        argparse.ArgumentTypeError: if it is no amount of memory.
    """
    from ..settings.sizes import parse_bytes

    try:
        if float(text.lower().rstrip('kmgtib ')) == 0:
            return 0
    except ValueError:  # parse_bytes says what is wrong
        pass
    try:
        return parse_bytes(text, 'reserve')
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def output_file(text: str) -> Path:
    """Read the name of a file to write; its folder is made if there is none.

    As the type of an argument, it refuses what could not be written before any work
    is done for it.

    Raises:
        argparse.ArgumentTypeError: if no such file can be written.
    """
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f'{text!r} is a folder; name a file in it.')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f'the folder of {text} cannot be made ({error.strerror}: '
            f'{error.filename}); name a file elsewhere.'
        ) from None
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(
            f'{text} may not be written; name a file elsewhere.'
        )
    return path


def picture_file(text: str) -> Path:
    """Read the name of a picture to write, like `output_file`.

    Raises:
        argparse.ArgumentTypeError: if no such file can be written, or not in the
            format of its name.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    path = output_file(text)
    kinds = FigureCanvasBase.get_supported_filetypes()
    if path.suffix and path.suffix[1:].lower() not in kinds:
        raise argparse.ArgumentTypeError(
            f'{text} is no picture; its name may end in .{", .".join(sorted(kinds))}.'
        )
    return path


def _print_error(error: Exception) -> None:
    """Print an error as the last line."""
    sys.stdout.flush()
    message = str(error.args[0]) if isinstance(error, KeyError) else str(error)
    if not message:
        where = traceback.extract_tb(error.__traceback__)[-1]
        message = f'in {where.name}, line {where.lineno} of {where.filename}'
    rank = os.environ.get('RANK')
    place = f'process {rank}: ' if rank else ''
    print(f'({_DEBUG} shows where this comes from)', file=sys.stderr)
    text = as_typed(f'{type(error).__name__}: {message.rstrip()}')
    print(f'{place}{text}', file=sys.stderr)


def _one_line(
    message: Warning | str, category: type[Warning], *_: Any, **__: Any
) -> str:
    return as_typed(f'{category.__name__}: {message}\n')
