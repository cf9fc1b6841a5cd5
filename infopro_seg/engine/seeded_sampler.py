"""A sampler that gives every sample its own random numbers."""

from mmengine.dataset import InfiniteSampler
from mmseg.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class SeededSampler(InfiniteSampler):
    """An InfiniteSampler whose augmentations do not depend on which process loads.

    With `DataGuardHook` the random augmentations of the n-th drawn sample follow from
    the seed and n alone. So they are the same for any number of workers or processes,
    and in a resumed run. `SafeCheckpointHook` does the same for every sampler.

    Args:
        args: Positional arguments of InfiniteSampler.
        kwargs: Keyword arguments of InfiniteSampler.
    """
