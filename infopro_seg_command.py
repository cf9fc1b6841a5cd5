"""The command ``infopro-seg``: one name for the programs in tools/.

Beside the package, whose import takes seconds and needs all host libraries: the list of
commands is there at once, and what is missing is said in one sentence.
"""

import ast
import difflib
import os
import runpy
import sys
from pathlib import Path

PROGRAM = 'infopro-seg'
#: What is typed, and the module of `infopro_seg.cli` that does it.
COMMANDS = {
    'demo': 'demo',
    'train': 'train',
    'test': 'test',
    'plan': 'plan',
    'localize': 'localize',
    'export': 'export_model',
    'prepare-cityscapes': 'prepare_cityscapes',
    'evaluate-cityscapes': 'evaluate_cityscapes',
    'report': 'report',
    'study': 'study',
    'probe': 'probe',
    'benchmark': 'benchmark',
    'gpu-proof': 'gpu_proof',
    'memory-table': 'memory_table',
    'classify-models': 'classify_models',
    'plan-table': 'plan_table',
    'plot-benchmark': 'plot_benchmark',
}
_PACKAGE = Path(__file__).with_name('infopro_seg')
_HELP = f"""usage: {PROGRAM} COMMAND [ARGUMENTS]
       {PROGRAM} COMMAND --help
       {PROGRAM} --version

commands:
"""


def main() -> int:
    """Run the command that the arguments of the process name.

    Returns:
        The exit code: that of the command, or 2 if there is none of this name.
    """
    name, *arguments = sys.argv[1:] or ['--help']
    if name in ('-h', '--help'):
        lines = (f'  {name:<20} {_summary(COMMANDS[name])}' for name in COMMANDS)
        print(_HELP + '\n'.join(lines))
        return 0
    if name == '--version':
        version = runpy.run_path(str(_PACKAGE / 'version.py'))['__version__']
        print(f'{PROGRAM} {version}')
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f'did you mean {near[0]!r}? ' if near else ''
        print(
            f'{PROGRAM}: there is no command {name!r}; {hint}{PROGRAM} --help lists '
            'them.',
            file=sys.stderr,
        )
        return 2
    sys.argv = [f'{PROGRAM} {name}', *arguments]
    return start(COMMANDS[name])


def start(module: str) -> int:
    """Run a module of `infopro_seg.cli` with the arguments of the process.

    Returns:
        Its exit code; 1 if the package cannot be imported.
    """
    try:
        from infopro_seg.cli.run import run
    except ImportError as error:
        if '--debug' in sys.argv or os.environ.get('INFOPRO_SEG_DEBUG'):
            raise
        print(f'ImportError: {error}', file=sys.stderr)
        return 1
    return run(module)


def _summary(module: str) -> str:
    """What a command does, without an import."""
    path = _PACKAGE / 'cli' / f'{module}.py'
    doc = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
    return doc.partition('\n')[0]
