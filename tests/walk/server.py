"""A process that has imported everything and forks a child for each job.

``python -m tests.walk.server ours`` runs the tools: ``{command, args, folder, log}``.
``python -m tests.walk.server stock`` tests exported pairs with stock mmseg: ``{config,
checkpoint, out, pictures, log, allowed}``; unless ``allowed``, an import of this
package fails.
A job is a line of JSON from stdin. The process itself never runs a network: a child
that is forked after that cannot differentiate. Configs are written as they come: to lay
them out nicely takes half the time of a small run.
"""

import gc
import importlib
import json
import os
import sys
import traceback
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.utils import register_all_modules
from yapf.yapflib import yapf_api

_PACKAGE = 'infopro_seg'
# What a run imports on its way: done once here instead of in every child.
_LATE_IMPORTS = ('matplotlib.pyplot', 'torch._dynamo', 'torch.onnx', 'torchvision')
#: Of both tests that are compared: SegNeXt's head draws when it predicts.
TEST_SEED = 0
#: Begins the line that gives the exit code of a job.
ANSWER = 'exit-code:'


class Refuse:
    """A finder that has no infopro_seg."""

    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] == _PACKAGE:
            raise ImportError(f'{name} must not be imported here')


def test_pair(job):
    if not job['allowed']:
        sys.meta_path.insert(0, Refuse())
    cfg = Config.fromfile(job['config'])
    cfg.work_dir = str(Path(job['out']).parent / 'stock')
    cfg.load_from = job['checkpoint']
    cfg.randomness = {'seed': TEST_SEED}
    cfg.test_evaluator.output_dir = job['pictures']
    metrics = Runner.from_cfg(cfg).test()
    if not job['allowed']:
        assert _PACKAGE not in sys.modules
    Path(job['out']).write_text(json.dumps(metrics, default=float))


def in_child(function, *args, log):
    """Call a function in a forked child that writes its output to a file.

    Returns:
        The exit code: what the function returns, 1 if it raises.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        with open(log, 'w') as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdout = open(1, 'w', closefd=False)  # noqa: SIM115
        sys.stderr = open(2, 'w', closefd=False)  # noqa: SIM115
        torch.set_num_threads(1)
        code = function(*args) or 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run_tool(job):
    from infopro_seg.cli.run import run

    os.chdir(job['folder'])
    sys.argv = [job['command'], *job['args']]
    return run(job['command'])


def main(kind):
    torch.set_num_threads(1)
    register_all_modules()
    for name in _LATE_IMPORTS:
        importlib.import_module(name)
    yapf_api.FormatCode = lambda text, **_: (text, True)
    work = test_pair
    if kind == 'ours':
        for command in ('train', 'test', 'export_model', 'localize'):
            importlib.import_module(f'{_PACKAGE}.cli.{command}')
        work = run_tool
    else:
        assert _PACKAGE not in sys.modules
    # A child's garbage collector need not look through all that was imported.
    gc.freeze()
    for line in sys.stdin:
        job = json.loads(line)
        print(ANSWER, in_child(work, job, log=job['log']), flush=True)


if __name__ == '__main__':
    main(sys.argv[1])
