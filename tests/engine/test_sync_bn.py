"""SyncBN in a config: one process trains with BN, in the local heads too.

torch has no SyncBN for CPUs, so that what several GPUs do is not tested here; what CPU
processes get is in tests/cli/test_config.py, the order of the collectives of a stand-in
in tests/distributed/.
"""

import pytest
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tests.helpers import NARROW, WIDTHS, assert_equal, build, deeplabv3, localized
from tests.runs import run_training


def config_of(norm):
    config = deeplabv3(NARROW, WIDTHS)
    for part in ('backbone', 'decode_head', 'auxiliary_head'):
        config[part]['norm_cfg'] = {'type': norm, 'requires_grad': True}
    return localized(config, splits=['layer1.1', 'layer3.0'])


def are_synced(module):
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    return {isinstance(norm, nn.SyncBatchNorm) for norm in norms}


@pytest.mark.parametrize('norm', ['SyncBN', 'BN'])
def test_local_heads_have_the_norm_of_the_decode_head(norm):
    model = build(config_of(norm))
    for part in (model.decode_head, *model.local_heads):
        assert are_synced(part) == {norm == 'SyncBN'}


def test_one_process_trains_a_config_with_sync_bn_as_one_with_bn(tmp_path):
    runs = [
        run_training(config_of(norm), tmp_path / norm, iterations=2)
        for norm in ('SyncBN', 'BN')
    ]
    for runner in runs:
        assert not any(isinstance(m, nn.SyncBatchNorm) for m in runner.model.modules())
    synced, plain = (runner.model.state_dict() for runner in runs)
    assert_equal(synced, plain)
    heads = [n for n in synced if n.startswith('local_heads.') and 'running_mean' in n]
    assert heads
    assert all(synced[name].any() for name in heads)
