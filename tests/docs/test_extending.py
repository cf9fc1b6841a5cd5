"""The walk-through of docs/extending.md works as it is written."""

import importlib
import os
import subprocess
import sys

import pytest
import torch

from infopro_seg.units import units_of
from tests.docs.pages import ROOT, blocks_of
from tests.helpers import batch, losses_of

BLOCKS = blocks_of('docs/extending.md')


def blocks(language):
    return [block.text for block in BLOCKS if block.language == language]


@pytest.fixture(scope='module')
def page(tmp_path_factory):
    """The code of the page as a module, run from top to bottom."""
    folder = tmp_path_factory.mktemp('extending')
    (folder / 'extending_page.py').write_text('\n'.join(blocks('python')))
    sys.path.insert(0, str(folder))
    yield importlib.import_module('extending_page')
    sys.path.remove(str(folder))


@pytest.mark.slow
def test_the_page_pasted_into_one_file_is_a_script_that_prints_what_it_says(tmp_path):
    # Here nothing else has registered mmseg's modules before.
    (tmp_path / 'ladder.py').write_text('\n'.join(blocks('python')))
    done = subprocess.run(
        [sys.executable, 'ladder.py'],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    # The host may say on import what of it is not installed.
    assert done.stdout.endswith(''.join(blocks('text')))


def test_the_units_take_less_than_40_lines():
    description = next(block for block in blocks('python') if '@describes' in block)
    assert len(description.splitlines()) < 40


def test_the_page_shows_the_local_modules_that_it_builds(page):
    printed = '\n'.join(str(module) for module in page.model.local_modules)
    assert blocks('text') == [f'{printed}\n']


def test_the_new_backbone_trains_as_local_modules(page):
    page.model.init_weights()
    page.model.train()
    losses = losses_of(page.model, batch())
    page.model.parse_losses(losses)[0].backward()
    untrained = {
        name for name, p in page.model.backbone.named_parameters() if p.grad is None
    }
    # The decode head does not read the normalised output, as the page says.
    assert untrained == {'norm.weight', 'norm.bias'}
    assert torch.isfinite(losses['local_1.loss_seg'])


def test_its_units_pass_the_contract_of_the_package(page):
    from tests.equivalence import test_unit_fold as contract

    config = {'type': 'LadderNet', 'channels': 8}
    contract.BACKBONES['ladder'] = config
    try:
        contract.test_fold_is_the_stock_forward_bit_for_bit('ladder')
        contract.test_units_own_every_parameter_exactly_once('ladder')
        contract.test_unit_names_are_unique_and_spelt_as_in_the_state_dict('ladder')
        contract.test_units_run_the_copy_after_deepcopy_and_pickle('ladder')
    finally:
        del contract.BACKBONES['ladder']
    assert [unit.name for unit in units_of(page.net)][-1] == 'up'
