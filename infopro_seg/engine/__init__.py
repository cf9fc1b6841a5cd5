"""Runner hooks; importing it registers them in mmseg."""

from .local_backward_hook import LocalBackwardHook

__all__ = ['LocalBackwardHook']
