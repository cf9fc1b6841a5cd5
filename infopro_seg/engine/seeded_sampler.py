"""A sampler that asks for random numbers of its own for every sample."""

from mmengine.dataset import InfiniteSampler
from mmseg.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class SeededSampler(InfiniteSampler):
    """The order of InfiniteSampler; augmentations do not depend on who loads.

    With `DataGuardHook` the random augmentations of the n-th drawn sample follow from
    the seed and n alone: they are the same for any number of workers or processes, and
    in a resumed run. `SafeCheckpointHook` does the same for every sampler.

    Args:
        args: Of InfiniteSampler, as all others.
        kwargs: Of InfiniteSampler.
    """
