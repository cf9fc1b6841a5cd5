"""Contract: two processes train the weights of one process that saw both halves."""

import pytest
import torch

from tests.distributed.ranks import (
    BAD_ITERATION,
    CASES,
    NUM_RANKS,
    data_of,
    mixing_model,
    model_of,
    num_iterations,
    run_rank,
    split_case,
    train,
)
from tests.helpers import assert_equal
from tests.processes import start

pytestmark = pytest.mark.dist


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ranks')
    start(run_rank, (str(folder),), NUM_RANKS)
    return [torch.load(folder / f'rank_{rank}.pth') for rank in range(NUM_RANKS)]


@pytest.mark.parametrize('case', [*CASES, 'sync_bn', 'skipped'])
def test_both_ranks_have_the_same_weights(weights, case):
    assert_equal(weights[0][case], weights[1][case])


@pytest.mark.parametrize('case', CASES)
def test_two_ranks_train_as_one_process_that_saw_both_halves(weights, case):
    model, settings = split_case(CASES[case])
    model = model_of(**model)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    data = [data_of(i, range(NUM_RANKS)) for i in range(num_iterations(**settings))]
    train(model, data, **settings)
    for name, value in model.state_dict().items():
        # Sums over the batch are taken in another order: a few float32 roundings.
        torch.testing.assert_close(
            weights[0][case][name], value, rtol=1e-4, atol=1e-6, msg=name
        )
    changed = [n for n, v in model.state_dict().items() if not v.equal(start[n])]
    is_frozen = case == 'frozen'
    has_heads = case != 'end-to-end'
    assert any(name.startswith('backbone.stem') for name in changed) != is_frozen
    heads = {n.split('.')[1] for n in changed if n.startswith('local_heads.')}
    assert heads == ({'0', '1'} if has_heads else set()) - (
        {'0'} if is_frozen else set()
    )


@pytest.mark.parametrize(
    'case',
    [
        'plain',
        'recompute',
        'look ahead',
        'deep supervision',
        'frozen',
        'end-to-end',
        'every other step',
    ],
)
def test_two_ranks_train_bit_for_bit_as_two_accumulated_halves(weights, case):
    # (a + b) / 2 of two ranks and a / 2 + b / 2 of one process round the same way.
    model = model_of(**split_case(CASES[case])[0])
    halves = [
        data_of(i, [rank]) for i in range(num_iterations()) for rank in range(NUM_RANKS)
    ]
    train(model, halves, accumulative_counts=NUM_RANKS)
    assert_equal(weights[0][case], model.state_dict())


def test_all_ranks_skip_a_batch_that_is_bad_on_one(weights):
    model = model_of()
    halves = [
        data_of(i, [rank])
        for i in range(num_iterations())
        if i != BAD_ITERATION
        for rank in range(NUM_RANKS)
    ]
    train(model, halves, accumulative_counts=NUM_RANKS)
    assert_equal(weights[0]['skipped'], model.state_dict())


def test_synchronised_norm_layers_train_as_one_process_with_bn(weights):
    # The norm layers' messages and those of DDP interleave in the same order on both
    # ranks, early backward passes or not.
    model = mixing_model().double()
    train(model, [data_of(i, range(NUM_RANKS)) for i in range(num_iterations())])
    own = model.state_dict()
    assert weights[0]['sync_bn'].keys() <= own.keys()
    for name, value in weights[0]['sync_bn'].items():
        # Moments are summed in another order: a few float64 roundings.
        torch.testing.assert_close(value, own[name], rtol=1e-8, atol=1e-10, msg=name)
