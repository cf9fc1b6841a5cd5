"""The state of a process's random generators, in a form that checkpoints can hold.

The host's augmentations and initialisation draw from numpy's global generator.
"""

import contextlib
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch


def random_state() -> dict[str, Any]:
    """The state of Python's, numpy's and torch's global generators.

    Returns:
        Only tensors and plain Python values, so that it can be read with
        ``weights_only=True``. Of all GPUs only the current one is included.
    """
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002  the host's
    state = {
        'python': random.getstate(),
        # As `numpy.random.set_state` takes it, but with a list.
        'numpy': (
            numpy['bit_generator'],
            numpy['state']['key'].tolist(),
            numpy['state']['pos'],
            numpy['has_gauss'],
            numpy['gauss'],
        ),
        'torch': torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Continue from a state that `random_state` returned.

    The GPU's part is skipped if there is no GPU, or was none.
    """
    random.setstate(state['python'])
    algorithm, keys, *rest = state['numpy']
    keys = np.array(keys, dtype=np.uint32)
    np.random.set_state((algorithm, keys, *rest))  # noqa: NPY002  the host's
    # A checkpoint may have been read to the GPU.
    torch.set_rng_state(state['torch'].cpu())
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


@contextlib.contextmanager
def random_numbers_from(seeds: Sequence[int]) -> Iterator[None]:
    """Seed the generators of augmentations, and restore them at the end.

    Args:
        seeds: Non-negative integers. Zeros at the end change nothing.
    """
    before = random.getstate(), np.random.get_state()  # noqa: NPY002  the host's
    words = np.random.SeedSequence(seeds).generate_state(3)
    # Not torch.manual_seed, which seeds the GPU too.
    generator = torch.default_generator
    torch_before = generator.get_state()
    try:
        random.seed(int(words[0]))
        np.random.seed(words[1])  # noqa: NPY002  mmcv's transforms draw from it
        generator.manual_seed(int(words[2]))
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002  the host's
        generator.set_state(torch_before)
