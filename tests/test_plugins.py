"""Document types come from plugins: the built-in ones, and those of other packages."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

import egwalker
from egwalker import Document, KindError, PluginError, formats, hookspecs, json_history, plugin_manager

UPPER = """
    from egwalker import ContentError, hookimpl

    class Shout:
        name = "shout"
        values = False

        def pack(self, content):
            if not isinstance(content, str) or content != content.upper():
                raise ContentError(f"no shout: {content!r}")
            return content

        def unpack(self, packed):
            return packed

    @hookimpl
    def register_document_types(register):
        register(Shout())
"""

POINTS = """
    import json
    from egwalker import ContentError, hookimpl

    class Points:
        name = "points"
        values = True

        def pack(self, content):
            return [json.dumps([x, y]) for x, y in content]

        def unpack(self, packed):
            return [tuple(json.loads(text)) for text in packed]

    class Plugin:
        @hookimpl
        def register_document_types(self, register):
            register(Points())

    plugin = Plugin()
"""


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Plugins are looked for anew within each test, and after it."""
    caches = (plugin_manager.manager, plugin_manager.document_types)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installer]:
    yield Installer(tmp_path, monkeypatch)
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


class Installer:
    """Puts a package with one module and an entry point for it where Python finds it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        monkeypatch.syspath_prepend(str(folder))

    def __call__(self, module: str, source: str, entry: str = "") -> None:
        (self.folder / f"{module}.py").write_text(dedent(source))
        info = self.folder / f"{module}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[egwalker]\n{module} = {module}{entry}\n")


def test_the_built_in_types_are_plugins() -> None:
    assert set(plugin_manager.document_types()) == {"text", "list"}
    names = {name for name, _ in plugin_manager.manager().list_name_plugin()}
    assert names == set(plugin_manager.BUILT_IN)


def test_nothing_is_loaded_before_the_first_document() -> None:
    assert plugin_manager.manager.cache_info().currsize == 0
    Document()
    Document()
    assert plugin_manager.manager.cache_info().misses == 1


def test_a_type_of_another_package(install: Installer) -> None:
    install("shouting", UPPER)
    doc = Document("shout", agent="alice")
    doc.insert(0, "HELLO")
    with pytest.raises(egwalker.ContentError, match="'quiet'"):
        doc.insert(0, "quiet")
    other = doc.fork("bob")
    other.insert(5, "!")
    doc.merge(other)
    assert doc.content == "HELLO!"
    assert doc.to_utf16(6) == 6
    with pytest.raises(KindError, match=r"'shout'.*'text'"):
        doc.merge(Document("text"))
    again = json_history.loads(json_history.dumps(doc)).document
    assert (again.kind, again.content) == ("shout", "HELLO!")


def test_a_type_of_values_from_an_object(install: Installer) -> None:
    install("geometry", POINTS, ":plugin")
    doc = Document("points")
    doc.insert(0, [(1, 2), (3, 4)])
    doc.delete(0)
    assert doc.content == [(3, 4)]


def test_content_that_is_no_json_is_not_saved(install: Installer, tmp_path: Path) -> None:
    install("geometry", POINTS.replace("tuple(", "frozenset("), ":plugin")
    doc = Document("points")
    doc.insert(0, [(1, 2)])
    with pytest.raises(egwalker.ContentError, match="frozenset"):
        formats.save(doc, str(tmp_path / "points.json"))
    assert list(tmp_path.glob("*points*")) == []


def test_a_type_that_fails_to_unpack_leaves_the_document_whole(install: Installer) -> None:
    install(
        "geometry",
        POINTS.replace("return [tuple(", "1 / (packed != ['[13, 13]'])\n            return [tuple("),
        ":plugin",
    )
    doc = Document("points")
    doc.insert(0, [(1, 2)])
    with pytest.raises(ZeroDivisionError):
        doc.receive([egwalker.Run("bob", 0, doc.version, ((1, 0, [(13, 13)]),))])
    doc._check()
    doc.insert(0, [(3, 4)])
    doc._check()
    assert doc.content[:2] == [(3, 4), (1, 2)]


def test_packed_texts_hold_no_surrogates(install: Installer) -> None:
    install("geometry", POINTS.replace("json.dumps([x, y])", "x"), ":plugin")
    doc = Document("points")
    with pytest.raises(egwalker.ContentError, match=r"U\+D800"):
        doc.insert(0, [('"fine"', 0), ('"\ud800"', 0)])
    assert len(doc) == 0
    doc._check()


def test_an_unknown_kind_names_those_there_are(install: Installer) -> None:
    install("shouting", UPPER)
    with pytest.raises(KindError, match=r"'whisper'.*: list, shout, text$"):
        Document("whisper")


def test_one_name_twice(install: Installer) -> None:
    install("mine", UPPER.replace('"shout"', '"text"'))
    with pytest.raises(
        PluginError, match=r"'text' is registered twice.*(mine\.Shout|egwalker\.plugins\.text\.Text)"
    ):
        Document()


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import nowhere", "nowhere"),
        ("1 / 0", "division"),
        (UPPER.replace("(register):", "(register, more):"), "more"),
        (UPPER.replace("def register_document_types", "def register_types"), "register_types"),
    ],
)
def test_plugins_that_do_not_load(install: Installer, source: str, why: str) -> None:
    install("broken", source)
    with pytest.raises(PluginError, match=rf"(?s)broken.*{why}"):
        Document()


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('name = "shout"', "", "no `name`"),
        ("values = False", "", "no `values`"),
        ("def unpack", "def unpick", "no `unpack`"),
        ('name = "shout"', 'name = ""', "non-empty"),
        ('name = "shout"', "name = 5", "5"),
    ],
)
def test_types_that_are_none(install: Installer, old: str, new: str, why: str) -> None:
    install("strange", UPPER.replace(old, new))
    with pytest.raises(PluginError, match=rf"strange\.Shout.*{why}"):
        Document()


def test_every_hook_is_documented() -> None:
    hooks = [value for name, value in vars(hookspecs).items() if name.startswith("register_")]
    assert hooks
    for hook in hooks:
        assert hook.__doc__


def test_imports_run_one_way() -> None:
    """The facade names no document type but in the table of built-in plugins, and imports none."""
    source = Path(egwalker.__file__).parent
    for path in source.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom | ast.Import):
                names = (
                    [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                )
                assert not any(
                    name.startswith(("egwalker.plugins", "egwalker.transports")) for name in names
                ), path
