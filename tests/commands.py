"""Runs the tools as commands, in processes that share what they import."""

import os
import runpy
import subprocess
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run_tool(tool, *args, cwd=None, env=None):
    """Run a file of tools/ as its user does, but for the seconds of importing torch.

    Args:
        tool: Its name in tools/, such as ``plan.py``.
        args: Its arguments.
        cwd: Folder it runs in.
        env: Variables beside those of this process.

    Returns:
        Exit code and output, as `subprocess.run` returns them.
    """
    context = get_context('forkserver')
    context.set_forkserver_preload(['infopro_seg', 'mmseg.models', 'tests.helpers'])
    argv = [str(ROOT / 'tools' / tool), *map(str, args)]
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder, name)) for name in ('out', 'err')]
        variables = {**os.environ, **(env or {})}
        place = str(cwd or Path.cwd())
        process = context.Process(target=_be, args=(argv, place, variables, files))
        process.start()
        process.join()
        out, err = (Path(file).read_text() for file in files)
    return subprocess.CompletedProcess(argv, process.exitcode, out, err)


def _be(argv, cwd, variables, files):
    """Turn into the command: it is what a new process of Python would be."""
    for number, (stream, file) in enumerate(zip(['out', 'err'], files, strict=True)):
        opened = open(file, 'w')  # noqa: SIM115  stays open until the end
        os.dup2(opened.fileno(), number + 1)
        setattr(sys, f'std{stream}', open(number + 1, 'w', buffering=1))  # noqa: SIM115
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(cwd)
    sys.argv = argv
    sys.path[0:0] = [str(Path(argv[0]).parent)]
    runpy.run_path(argv[0], run_name='__main__')
