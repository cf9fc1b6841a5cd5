"""Where the tests of this folder run.

They need a CUDA device and are skipped without one. INFOPRO_SEG_GPU_TESTS=cpu runs what
can be run without one on the CPU: a rehearsal of the tests themselves.
"""

import os

import pytest
import torch

IS_REHEARSAL = os.environ.get('INFOPRO_SEG_GPU_TESTS') == 'cpu'


def pytest_collection_modifyitems(items):
    for item in items:
        if 'tests/gpu/' not in str(item.path):
            continue
        item.add_marker(pytest.mark.gpu)
        if not torch.cuda.is_available():
            if not IS_REHEARSAL:
                item.add_marker(pytest.mark.skip(reason='no CUDA device'))
            elif item.get_closest_marker('cuda_only'):
                item.add_marker(pytest.mark.skip(reason='means nothing on a CPU'))


@pytest.fixture
def device():
    return torch.device('cuda' if torch.cuda.is_available() else 'cpu')


@pytest.fixture(autouse=True)
def _exact():
    """The same numbers from run to run, in float32 without shortcuts."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    yield
    torch.backends.cudnn.deterministic = False
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
