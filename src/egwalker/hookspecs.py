"""The hooks that plugins implement, each marked with `egwalker.hookimpl`.

A plugin is a module or an object named by an entry point in group `egwalker`.
"""

from collections.abc import Callable

import pluggy

from egwalker.types import SequenceType

PROJECT = "egwalker"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_document_types(register: Callable[[SequenceType], None]) -> None:
    """Call `register(document_type)` for each type of document that the plugin provides.

    Called once in a process, when the first document is made. A name that is taken already is a
    `PluginError`.
    """
