"""Hooks that register others."""

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner


def register_missing(
    runner: Runner, wanted: Mapping[type[Hook], Mapping[str, Any]]
) -> None:
    """Register hooks that a run does not have yet.

    Args:
        runner: Its hooks of these classes, with whatever settings, stay as they are.
        wanted: Settings by class.
    """
    for kind, settings in wanted.items():
        if not any(isinstance(hook, kind) for hook in runner.hooks):
            runner.register_hook(kind(**settings))
