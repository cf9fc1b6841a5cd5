"""One seed for every test, one thread for all."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _reproducible():
    torch.set_num_threads(1)
    torch.manual_seed(0)
