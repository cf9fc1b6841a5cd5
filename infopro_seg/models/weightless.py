"""Networks built without memory for weights, for their shapes alone."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode


class WithoutStorage(TorchFunctionMode):
    """Weights made inside have shapes but no memory; initialising them costs nothing.

    Unlike with ``torch.device('meta')``, small tensors that constructors compute with
    stay real: many backbones take the rates of stochastic depth from one.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty and kwargs.get('device') is None:
            kwargs['device'] = 'meta'
        return func(*args, **kwargs)


@contextlib.contextmanager
def undisturbed_randomness() -> Iterator[None]:
    """Leave the random generators of Python, numpy and torch's CPU as they were."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
