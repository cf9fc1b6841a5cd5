"""Runner hooks; importing this registers them in mmseg."""

from .check_weights_hook import CheckWeightsHook
from .clip_module_grad_hook import ClipModuleGradHook
from .data_guard_hook import DataGuardHook
from .due_validation_hook import DueValidationHook
from .local_backward_hook import LocalBackwardHook
from .local_module_monitor_hook import LocalModuleMonitorHook
from .local_training_hook import LocalTrainingHook
from .loss_guard_hook import LossGuardHook
from .memory_advice_hook import MemoryAdviceHook
from .random_streams_hook import RandomStreamsHook
from .safe_checkpoint_hook import SafeCheckpointHook
from .seeded_sampler import SeededSampler
from .timeline_hook import TimelineHook
from .whole_file_backend import WholeFileBackend

__all__ = [
    'CheckWeightsHook',
    'ClipModuleGradHook',
    'DataGuardHook',
    'DueValidationHook',
    'LocalBackwardHook',
    'LocalModuleMonitorHook',
    'LocalTrainingHook',
    'LossGuardHook',
    'MemoryAdviceHook',
    'RandomStreamsHook',
    'SafeCheckpointHook',
    'SeededSampler',
    'TimelineHook',
    'WholeFileBackend',
]
