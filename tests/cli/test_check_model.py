"""What the check before training refuses: our errors, and no one else's."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.models.decode_heads import FCNHead

from infopro_seg.cli.check_model import build_bare, build_weightless, check_model
from tests.helpers import NARROW, WIDTHS, deeplabv3, localized


def _gram(weight):
    return weight.flatten(1) @ weight.flatten(1).t()


def _is_there(weight):
    if weight.is_meta:
        raise NotImplementedError
    return True


def _same(weight):
    assert weight.device.type == 'cpu'


#: What a network may do with its new weights while it is built; all of it needs them.
USES = {
    'a number': lambda weight: float(_gram(weight).max()),
    'a decision': lambda weight: bool((weight > 0).any()),
    'a list': lambda weight: weight.tolist(),
    'an array': lambda weight: weight.numpy(),
    'an array, by numpy': np.asarray,
    'a copy': lambda weight: weight.to('cpu'),
    'a selection': lambda weight: weight[weight > 0],
    'places': lambda weight: weight.nonzero(),
    'a comparison': lambda weight: torch.equal(weight, weight),
    'with a real tensor': lambda weight: weight.flatten()[:3] @ torch.ones(3),
    'of an empty tensor': lambda weight: torch.empty(1).item(),
    'its assertion': _same,
    'its own error': _is_there,
    'a missing entry': lambda weight: [1][int(weight.is_meta)],
    'a missing key': lambda weight: {False: 1}[weight.is_meta],
    'a missing attribute': lambda weight: (None if weight.is_meta else '').strip(),
    'a division': lambda weight: 1 / int(not weight.is_meta),
}


class UsesWeights(FCNHead):
    def __init__(self, use, **settings):
        super().__init__(**settings)
        self.found = USES[use](self.conv_seg.weight.detach())


class Broken(FCNHead):
    def __init__(self, **settings):
        super().__init__(**settings)
        raise RuntimeError('broken anyway')


def config(head, local=None, **settings):
    model = deeplabv3(NARROW, WIDTHS, auxiliary=None)
    model['decode_head'].pop('dilations')
    model['decode_head'].update(type=head, **settings)
    model = localized(model, **(local or {'splits': ['layer2.1']}))
    return Config({'default_scope': 'mmseg', 'model': model})


@pytest.mark.parametrize('use', USES)
def test_a_network_that_needs_its_weights_is_left_to_the_run(use):
    cfg = config(UsesWeights, use=use)
    with pytest.raises(Exception, match=''):
        build_weightless(cfg)
    check_model(cfg)
    before = torch.random.get_rng_state()
    model = build_bare(cfg)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [module.name for module in model.local_modules] == ['local_0', 'local_1']


@pytest.mark.parametrize('use', [None, 'a number'])
@pytest.mark.parametrize(
    ('local', 'error'),
    [
        ({'splits': ['layer9.1']}, ValueError),
        ({'splits': ['layer2.1'], 'zzz': 1}, ValueError),
        ({'num_modules': None, 'plan': 'no_such.json'}, FileNotFoundError),
    ],
)
def test_our_errors_are_found_where_they_can_be(local, error, use):
    cfg = (
        config('FCNHead', local) if use is None else config(UsesWeights, local, use=use)
    )
    with pytest.raises(error):
        build_bare(cfg)
    if use is None:
        with pytest.raises(error):
            check_model(cfg)


def test_an_error_of_the_network_is_shown_as_the_run_shows_it():
    cfg = config(Broken)
    check_model(cfg)
    with pytest.raises(RuntimeError, match='broken anyway'):
        build_bare(cfg)
