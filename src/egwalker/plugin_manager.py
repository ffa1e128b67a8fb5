"""Finds the plugins and asks them what they provide.

Nothing is loaded on import: the first document of a process loads the built-in plugins, then those that
installed packages name in the entry point group `egwalker`.
"""

from __future__ import annotations

import functools
import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

from egwalker import hookspecs
from egwalker.cycore.errors import KindError, PluginError
from egwalker.kinds import Kind, kind_of
from egwalker.types import ReplayedType, SequenceType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egwalker.transport import Transport

BUILT_IN = tuple([f"egwalker.plugins.{name}" for name in ("text", "list", "map", "counter", "table")])
TRANSPORTS = ("egwalker.transports.memory", "egwalker.transports.file", "egwalker.transports.aiohttp")
"""Loaded when the first URL is looked up: what they import takes long."""


@functools.cache
def manager() -> pluggy.PluginManager:
    """The plugin manager, with all plugins registered. Raises `PluginError`, naming the plugin that fails."""
    plugins = pluggy.PluginManager(hookspecs.PROJECT)
    plugins.add_hookspecs(hookspecs)
    for name in BUILT_IN:
        plugins.register(importlib.import_module(name), name)
    for entry in metadata.entry_points(group=hookspecs.PROJECT):
        try:
            plugin = entry.load()
            if not plugins.is_registered(plugin):
                plugins.register(plugin, entry.name)
                plugins.check_pending()
        except Exception as error:
            raise PluginError(f"plugin {entry.name} ({entry.value}) cannot be loaded: {error}") from error
    return plugins


@functools.cache
def load_transports() -> pluggy.PluginManager:
    """The plugin manager, with the built-in transports too."""
    plugins = manager()
    for name in TRANSPORTS:
        plugins.register(importlib.import_module(name), name)
    return plugins


def add_plugin(plugin: object, name: str | None = None) -> None:
    """Register a plugin that is no installed package's, such as a program's own type of document.

    `name`: by default the module's. `PluginError` for one that is registered already, or has an unknown hook.
    """
    plugins = manager()
    try:
        plugins.register(plugin, name)
        plugins.check_pending()
    except Exception as error:
        raise PluginError(f"plugin {name or plugin!r} cannot be added: {error}") from error
    document_types.cache_clear()
    transports.cache_clear()


class Provided(NamedTuple):
    """A plugin: its name, the package or module that it comes from, what it provides."""

    name: str
    source: str
    provides: str


def provided() -> Iterator[Provided]:
    """All plugins. `PluginError` if one cannot be loaded."""
    packages = {
        entry.name: f"{entry.dist.name} {entry.dist.version}"
        for entry in metadata.entry_points(group=hookspecs.PROJECT)
        if entry.dist is not None
    }
    plugins = load_transports()
    for name, plugin in plugins.list_name_plugin():
        callers = plugins.get_hookcallers(plugin) or []
        hooks = ", ".join(sorted([caller.name for caller in callers]))
        yield Provided(name, packages.get(name, "built in"), hooks)


def hook() -> Any:
    """The hooks of all plugins, to be called by name."""
    return manager().hook


@functools.cache
def transports() -> dict[str, Transport]:
    """All registered transports by the schemes of their URLs. `PluginError` for one given twice."""
    found: dict[str, Transport] = {}

    def register(transport: Transport) -> None:
        where = f"{type(transport).__module__}.{type(transport).__qualname__}"
        for attribute in ("name", "schemes", "connect", "place"):
            if not hasattr(transport, attribute):
                raise PluginError(f"{where} is no transport: it has no `{attribute}`")
        if any(other.name == transport.name for other in found.values()):
            raise PluginError(f"transport {transport.name!r} is registered twice")
        for scheme in transport.schemes:
            if scheme in found:
                raise PluginError(
                    f"URLs of scheme {scheme!r} are for both {found[scheme].name!r} and {transport.name!r}"
                )
        found.update(dict.fromkeys(transport.schemes, transport))

    load_transports().hook.register_transports(register=register)
    return found


def transport_of(url: str) -> Transport:
    """The transport for a URL; `KindError`, naming all schemes, if no plugin provides it."""
    known = transports()
    scheme = url.partition(":")[0].lower()
    found = known.get(scheme)
    if found is None:
        raise KindError(f"no plugin links to {url!r:.200}; there are: {', '.join(sorted(known))}")
    return found


SEQUENCE = ("name", "values", "pack", "unpack")
REPLAYED = ("name", "initial", "check", "apply", "undo", "content")
"""What types of documents have."""


@functools.cache
def document_types() -> dict[str, Kind]:
    """All registered document types by name. `PluginError` for an unusable one or a name given twice."""
    types: dict[str, Kind] = {}

    def register(document_type: SequenceType | ReplayedType) -> None:
        where = f"{type(document_type).__module__}.{type(document_type).__qualname__}"
        for attribute in REPLAYED if hasattr(document_type, "apply") else SEQUENCE:
            if not hasattr(document_type, attribute):
                raise PluginError(f"{where} is no document type: it has no `{attribute}`")
        name = document_type.name
        if not isinstance(name, str) or not name:
            raise PluginError(f"{where} is no document type: its name is {name!r}, not a non-empty str")
        if name in types:
            other = type(types[name].provided)
            raise PluginError(
                f"document type {name!r} is registered twice: "
                f"by {other.__module__}.{other.__qualname__} and {where}"
            )
        types[name] = kind_of(document_type)

    manager().hook.register_document_types(register=register)
    return types


def document_type(kind: str) -> Kind:
    """The document type of that name; `KindError`, naming all there are, if no plugin provides it."""
    types = document_types()
    found = types.get(kind) if isinstance(kind, str) else None
    if found is None:
        raise KindError(
            f"no plugin provides documents of kind {kind!r}; there are: {', '.join(sorted(types))}"
        )
    return found
