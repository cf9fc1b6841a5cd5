"""One seed for every test, one thread for all."""

import gc

import pytest
import torch


def pytest_collection_finish():
    """Spare the garbage collector what has been imported: the host calls it often."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _reproducible():
    torch.set_num_threads(1)
    torch.manual_seed(0)
