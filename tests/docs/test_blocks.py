"""Every block of code in the pages is run or checked; one that is not fails here.

- The python blocks of a page with a test of its own are run by that test (`OWN_TESTS`).
- Any other python block is a piece of a config, and trains.
- Commands are read by the parsers that read them when they are typed.
- A block of YAML is a study.
"""

import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from unittest import mock

import pytest
from mmengine.runner import Runner
from mmseg.visualization import SegLocalVisualizer

import tests.helpers  # noqa: F401  registers mmseg's modules
from infopro_seg.cli.check_model import build_weightless
from infopro_seg.cli.config import complete_training
from infopro_seg.settings import LocalSettings
from infopro_seg.settings.config import read_config
from infopro_seg.settings.local import CUTS
from infopro_seg.study.matrix import read_study
from infopro_seg_command import COMMANDS, PROGRAM, main
from tests.docs.pages import NAMES, ROOT, Block, blocks_of, commands_of, read_blocks

#: Pages whose blocks a module runs, all of them but the commands.
OWN_TESTS = {
    'docs/extending.md': 'test_extending',
    'docs/own-data.md': 'test_own_data',
    'docs/settings.md': 'test_settings_page',
}
#: The build of mmcv, which needs a network and many minutes: typed by hand.
BY_HAND = [
    'pip install torch==2.14.1 torchvision==0.29.1 wheel ninja setuptools<81',
    'pip download --no-deps --no-build-isolation --no-binary mmcv mmcv==2.1.0',
    'tar xzf mmcv-2.1.0.tar.gz',
    'sed -i s/c++17/c++20/ mmcv-2.1.0/setup.py',
    'pip install --no-build-isolation ./mmcv-2.1.0',
]
BLOCKS = [block for name in NAMES for block in blocks_of(name)]
OTHERS = [block for block in BLOCKS if block.page not in OWN_TESTS]
SHELL = [block for block in BLOCKS if block.language in ('', 'bash')]
CONFIGS = [block for block in OTHERS if block.language == 'python']
STUDIES = [block for block in OTHERS if block.language == 'yaml']


def test_every_block_is_in_one_of_the_lists():
    left = [block for block in OTHERS if block not in SHELL + CONFIGS + STUDIES]
    assert not left, [f'{block}: {block.language}' for block in left]


@pytest.mark.parametrize(('page', 'module'), OWN_TESTS.items())
def test_a_page_with_a_test_of_its_own_is_read_by_it(page, module):
    module = importlib.import_module(f'tests.docs.{module}')
    assert [b for b in blocks_of(page) if b not in SHELL] == module.BLOCKS


def test_blocks_are_found_wherever_markdown_has_them():
    text = '```\na\n```\n- list\n\n  ~~~python\n  b = """\n  ```\n  """\n  ~~~\n'
    found = [(b.line, b.language, b.text) for b in read_blocks('page', text)]
    assert found == [(1, '', 'a\n'), (6, 'python', 'b = """\n```\n"""\n')]
    with pytest.raises(ValueError, match=r'page:2: the block is not closed'):
        read_blocks('page', 'text\n```\na\n')


def test_commands_are_split_as_a_shell_does():
    text = "A=1 b 'c d' \\\n  --e  # f && g\n\nh && i[j]=k\n"
    assert list(commands_of(text)) == [['A=1', 'b', 'c d', '--e'], ['h'], ['i[j]=k']]


# -- commands


def parse(module, arguments, monkeypatch):
    """Have a command of the package read its arguments."""
    module = importlib.import_module(f'infopro_seg.cli.{module}')
    monkeypatch.setattr(sys, 'argv', ['tool', *arguments])
    takes_none = inspect.signature(module.parse_args).parameters
    read = module.parse_args(None) if takes_none else module.parse_args()
    local = dict(getattr(read, 'local', None) or {})
    if local.pop('plan', None) or not {*CUTS} & {*local}:  # the plan is not there yet
        local['num_modules'] = 2
    LocalSettings.parse(local)


def parse_tool(path, arguments, monkeypatch):
    name = re.search(r'tools/(?:analysis/)?(\w+)\.py$', path)
    assert name, path
    assert (ROOT / path[path.index('tools/') :]).is_file(), path
    parse(name[1], arguments, monkeypatch)


def parse_torchrun(arguments, monkeypatch):
    """Read as torchrun does, then as what it starts does."""
    from torch.distributed.run import parse_args

    read = parse_args(arguments)
    if read.module:
        assert read.training_script == 'infopro_seg.cli'
        parse_program(read.training_script_args, monkeypatch)
    else:
        parse_tool(read.training_script, read.training_script_args, monkeypatch)


def parse_program(arguments, monkeypatch):
    if not arguments:
        monkeypatch.setattr(sys, 'argv', [PROGRAM])
        assert main() == 0
        return
    name, *arguments = arguments
    assert name in COMMANDS, name
    parse(COMMANDS[name], arguments, monkeypatch)


def parse_python(arguments, monkeypatch):
    if arguments[:2] == ['-m', 'venv']:
        assert arguments[2:] == ['.venv']
    elif arguments[:2] == ['-m', 'infopro_seg.cli']:
        parse_program(arguments[2:], monkeypatch)
    else:
        parse_tool(arguments[0], arguments[1:], monkeypatch)


def parse_script(script, arguments, variables, folder, monkeypatch):
    """Run a script of tools/ with stand-ins for what it starts, and read that."""
    for name in ('python', 'srun'):
        stub = folder / name
        stub.write_text(
            f'#!{sys.executable}\nimport json, sys\n'
            f'json.dump(sys.argv[1:], open({str(folder / "typed.json")!r}, "w"))\n'
        )
        stub.chmod(0o755)
    done = subprocess.run(
        [ROOT / script, *arguments],
        env={'PATH': f'{folder}:{os.environ["PATH"]}', **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    typed = json.loads((folder / 'typed.json').read_text())
    if typed[:2] == ['-m', 'torch.distributed.run']:
        parse_torchrun(typed[2:], monkeypatch)
    else:
        tool = typed.index('-u') + 1
        parse_tool(typed[tool], typed[tool + 1 :], monkeypatch)


def parse_make(targets):
    assert shutil.which('make')
    done = subprocess.run(
        ['make', '--dry-run', *targets], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def parse_pip(arguments):
    """The files of requirements and the packages of a command, as pip reads it."""
    from pip._internal.commands import create_command

    name, *arguments = arguments
    options, packages = create_command(name).parse_args(arguments)
    return options.requirements, packages


def check_command(words, folder, monkeypatch):
    """Read a command as the program reads it that it names."""
    variables = {}
    while re.match(r'[A-Z_]+=', words[0]):
        name, _, variables[name] = words.pop(0).partition('=')
    program, *arguments = words
    if ' '.join(words) in BY_HAND:
        assert program != 'pip' or parse_pip(arguments)
    elif program in ('python', 'python3', '.venv/bin/python'):
        parse_python(arguments, monkeypatch)
    elif program == PROGRAM:
        parse_program(arguments, monkeypatch)
    elif program == 'torchrun':
        parse_torchrun(arguments, monkeypatch)
    elif program.startswith('tools/'):
        parse_script(program, arguments, variables, folder, monkeypatch)
    elif program == 'make':
        parse_make(arguments)
    elif program == 'pip':
        requirements, packages = parse_pip(arguments)
        pins = (ROOT / 'requirements.txt').read_text().splitlines()
        assert set(requirements) <= {'requirements.txt'}
        assert set(packages) <= {'.', '.[onedl]', '.[openmmlab]', *pins}, packages
    elif program == 'touch':  # a target of make
        parse_make(arguments)
    elif program == '.':
        assert arguments == ['.venv/bin/activate']
    elif program == 'tensorboard':  # not installed with the package
        assert arguments == ['--logdir', 'work_dirs/my_config']
    else:
        pytest.fail(f'{program}: no check of this file knows this program')


@pytest.mark.parametrize('block', SHELL, ids=str)
def test_commands_are_understood_by_what_they_start(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in commands_of(block.text):
        for word in words:  # weights and checkpoints may have to exist
            if word.endswith('.pth') and '=' not in word:
                Path(word).parent.mkdir(parents=True, exist_ok=True)
                Path(word).touch()
        check_command(words, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    'command',
    [
        'python tools/plan.py my_config.py --gpu-memory 11GiB --outt plan.json',
        'python tools/export_model.py',
        'python tools/nothing.py',
        'python tools/train.py my_config.py --local num_module=4',
        'infopro-seg nothing',
        'torchrun --nproc_per_node 2 -m -- infopro_seg.cli train',
        'tools/dist_train.sh CONFIG 2 --no-such-option',
        'tools/dist_test.sh CONFIG CHECKPOINT',
        'tools/slurm_train.sh PARTITION JOB_NAME CONFIG --no-such-option',
        'make nothing',
        'pip install torch==1.0',
        'pip install --no-such-option .',
        'curl https://example.org',
    ],
)
def test_a_command_that_nobody_understands_is_found(command, tmp_path, monkeypatch):
    (words,) = commands_of(command)
    with pytest.raises((AssertionError, SystemExit, ValueError, pytest.fail.Exception)):
        check_command(words, tmp_path, monkeypatch)


# -- configs

BASE = """
_base_ = 'infopro_seg::infopro_deeplabv3_r18_streets.py'
model = dict(
    data_preprocessor=dict(size=(32, 64)),
    backbone=dict(base_channels=8, stem_channels=8),
    decode_head=dict(in_channels=64, channels=8),
    auxiliary_head=dict(in_channels=32, channels=8),
)
train_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(size=(32, 64))
)
total_batch_size = 2
default_hooks = dict(logger=dict(interval=1), checkpoint=None)
"""


def is_whole(block):
    return block.text.startswith('_base_ = ')


def read_piece(block, folder):
    """The settings of a block, and a small config with them.

    Whoever adds a block of another kind must add what runs it: what no runner takes
    is no piece of a config.
    """
    (folder / 'base.py').write_text(BASE)
    (folder / 'piece.py').write_text(block.text)
    (folder / 'config.py').write_text(f"_base_ = './base.py'\n{block.text}")
    piece = read_config(folder / 'piece.py')
    taken = {*inspect.signature(Runner).parameters, 'find_unused_parameters'}
    assert {*piece} & taken, f'{block} is neither run nor a piece of a config'
    cfg = read_config(folder / 'config.py')
    for name in cfg:
        if name.startswith(('val_', 'test_')):
            cfg[name] = None
    cfg.train_cfg = {'type': 'IterBasedTrainLoop', 'max_iters': 2}
    cfg.work_dir = str(folder)
    cfg.log_level = 'ERROR'
    return piece, cfg


@pytest.fixture
def places(monkeypatch):
    """Stand-ins for the places to log to that the package does without."""
    places = mock.MagicMock()
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', places)
    monkeypatch.setitem(sys.modules, 'wandb', places.wandb)
    # A visualizer is kept by its name, and the first one of a name stays.
    monkeypatch.setattr(SegLocalVisualizer, '_instance_dict', OrderedDict())
    return places


@pytest.mark.parametrize('block', filter(is_whole, CONFIGS), ids=str)
def test_a_config_is_cut(block, tmp_path):
    (tmp_path / 'config.py').write_text(block.text)
    cfg = read_config(tmp_path / 'config.py')
    assert len(build_weightless(cfg).local_modules) == cfg.model.local.num_modules > 1


@pytest.mark.parametrize('block', [b for b in CONFIGS if not is_whole(b)], ids=str)
def test_a_piece_of_a_config_trains(block, tmp_path, places):
    piece, cfg = read_piece(block, tmp_path)
    complete_training(cfg)
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 2
    hooks = {type(hook).__name__ for hook in runner.hooks}
    assert {hook.type for hook in piece.get('custom_hooks', ())} <= hooks
    logs = {backend.type for backend in piece.get('vis_backends', ())}
    written = str(places.mock_calls)
    assert ('SummaryWriter().add_scalar' in written) == (
        'TensorboardVisBackend' in logs
    )
    assert ('wandb.log(' in written) == ('WandbVisBackend' in logs)
    assert 'local_0.loss_recon' in written or not logs


def test_a_program_is_no_piece_of_a_config(tmp_path):
    program = Block('page', 1, 'python', 'print(1 + 1)\nresult = 2\n')
    with pytest.raises(AssertionError, match='page:1 is neither run nor a piece'):
        read_piece(program, tmp_path)


# -- studies


@pytest.mark.parametrize('block', STUDIES, ids=str)
def test_a_study_is_read(block, tmp_path):
    (tmp_path / 'my_config.py').write_text('')
    (tmp_path / 'study.yaml').write_text(block.text)
    for row in read_study(tmp_path / 'study.yaml').rows:
        LocalSettings.parse(row.local)
