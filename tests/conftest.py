"""One seed for every test, one thread for all."""

import gc

import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer


def pytest_collection_finish():
    """Spare the garbage collector what has been imported: the host calls it often."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _reproducible():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_logs():
    """A run that starts in the second of an earlier one would go on with its logs."""
    yield
    for kind in (MMLogger, MessageHub, Visualizer, *Visualizer.__subclasses__()):
        kind._instance_dict.clear()


@pytest.fixture(autouse=True)
def _own_scope():
    """What an earlier test looked names up in must not decide what this one finds."""
    before = DefaultScope._instance_dict.copy()
    yield
    DefaultScope._instance_dict = before
