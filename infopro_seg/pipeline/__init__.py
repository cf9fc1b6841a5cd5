"""Local modules on several devices at once, with the weights of the sequential run.

No gradient crosses a wall, so a stage (consecutive local modules in one process) needs
only its input of a step and its own weights after the step before. It works on one
batch while the stage before it is at the next.
"""

from .layout import Layout
from .runner import PipelineRunner, num_stages_of

__all__ = ['Layout', 'PipelineRunner', 'num_stages_of']
