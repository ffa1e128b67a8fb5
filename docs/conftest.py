"""For the tests of the pages: what one of them registers is not there for the next."""

from collections.abc import Iterator

import pytest

from egwalker.plugin_manager import document_types, load_transports, transports


@pytest.fixture(autouse=True)
def _own_plugins() -> Iterator[None]:
    plugins = load_transports()
    before = plugins.get_plugins()
    yield
    for plugin in plugins.get_plugins() - before:
        plugins.unregister(plugin)
    document_types.cache_clear()
    transports.cache_clear()
