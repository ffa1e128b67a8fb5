"""The examples in docstrings of compiled modules, which pytest does not collect by itself."""

import doctest
import importlib
import pkgutil

import pytest

import egwalker.cycore

MODULES = [module.name for module in pkgutil.iter_modules(egwalker.cycore.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    module = importlib.import_module(f"egwalker.cycore.{name}")
    assert doctest.testmod(module).failed == 0


def test_there_are_some() -> None:
    finder = doctest.DocTestFinder()
    modules = [importlib.import_module(f"egwalker.cycore.{name}") for name in MODULES]
    with_examples = {test.name for module in modules for test in finder.find(module) if test.examples}
    for name in ("graph.Graph", "oplog.OpLog", "rope.Rope", "checkout.Checkout", "order.groups"):
        assert f"egwalker.cycore.{name}" in with_examples
