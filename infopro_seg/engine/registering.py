"""Hooks that register others."""

from collections.abc import Mapping
from typing import Any

from mmengine.runner import Runner

from ..settings.config import type_name


def register_missing(runner: Runner, wanted: Mapping[str, Mapping[str, Any]]) -> None:
    """Register hooks that a run does not have yet.

    Args:
        runner: Its hooks of these types, with whatever settings, stay as they are.
        wanted: Settings by type.
    """
    present = {type_name(type(hook)) for hook in runner.hooks}
    for name, settings in wanted.items():
        if name not in present:
            runner.register_hook({'type': name, **settings})
