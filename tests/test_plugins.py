"""Document types come from plugins: the built-in ones, and those of other packages."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pluggy
import pytest

import egwalker
from egwalker import Document, KindError, PluginError, cli, formats, hookspecs, json_history, plugin_manager

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
    caches = (
        plugin_manager.manager,
        plugin_manager.load_transports,
        plugin_manager.document_types,
        plugin_manager.transports,
    )
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
    assert set(plugin_manager.document_types()) == {"text", "list", "map", "counter", "table"}
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
    with pytest.raises(KindError, match=r"'whisper'.*: counter, list, map, shout, table, text$"):
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


# --- transports ---------------------------------------------------------------------------------------------

NOWHERE = """
    from contextlib import asynccontextmanager
    from egwalker import hookimpl

    class Nowhere:
        name = "nowhere"
        schemes = ("nowhere", "elsewhere")

        @asynccontextmanager
        async def connect(self, url, document, **options):
            document.insert(0, url)
            yield options

        async def place(self, url, kind):
            raise NotImplementedError

    @hookimpl
    def register_transports(register):
        register(Nowhere())
"""


def test_the_built_in_transports_are_plugins() -> None:
    schemes = {"file", "memory", "ws", "wss", "http", "https"}
    assert set(plugin_manager.transports()) == schemes
    assert plugin_manager.transport_of("FILE:notes.egw").name == "file"


def test_transports_are_loaded_when_they_are_needed() -> None:
    """They import much that a program which only merges does without."""
    program = "import sys, egwalker; egwalker.Document(); print({'asyncio', 'aiohttp'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


async def test_a_transport_of_another_package(install: Installer) -> None:
    install("away", NOWHERE)
    doc = Document(agent="alice")
    async with egwalker.connect("elsewhere:far", doc, speed=5) as link:
        assert str(link) == "{'speed': 5}"
    assert doc.content == "elsewhere:far"


def test_an_unknown_scheme_names_those_there_are() -> None:
    with pytest.raises(KindError, match=r"'gopher://x'; there are: file, http, https, memory, ws, wss$"):
        egwalker.connect("gopher://x", Document())


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (
            '"nowhere", "elsewhere"',
            '"nowhere", "file"',
            "'file' are for both 'file' and 'nowhere'|both 'nowhere'",
        ),
        ('name = "nowhere"', 'name = "file"', "'file' is registered twice"),
        ("def place", "def plaice", "no `place`"),
        ('name = "nowhere"', "", "no `name`"),
    ],
)
def test_transports_that_are_none(install: Installer, old: str, new: str, why: str) -> None:
    install("away", NOWHERE.replace(old, new))
    with pytest.raises(PluginError, match=why):
        plugin_manager.transports()


def test_two_plugins_with_one_name(install: Installer) -> None:
    install("one", UPPER)
    install("two", NOWHERE)
    entries = install.folder / "two-1.dist-info" / "entry_points.txt"
    entries.write_text("[egwalker]\none = two\n")
    with pytest.raises(PluginError, match="one"):
        plugin_manager.manager()


def test_the_plugins_are_listed(install: Installer, capsys: pytest.CaptureFixture[str]) -> None:
    install("away", NOWHERE)
    assert cli.main(["plugins"]) == 0
    out, err = capsys.readouterr()
    assert "away  away 1  register_transports\n" in out
    assert "egwalker.plugins.text  built in  register_document_types\n" in out
    assert err == f"{len(out.splitlines())} plugins\n"


# --- hooks --------------------------------------------------------------------------------------------------


def test_every_hook_is_documented() -> None:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    hooks = vars(manager.hook)
    page = (Path(__file__).resolve().parent.parent / "docs" / "plugins.md").read_text(encoding="utf-8")
    hooks = {name: value for name, value in hooks.items() if not name.startswith("_")}
    assert len(hooks) > 5
    for name, caller in hooks.items():
        assert getattr(hookspecs, name).__doc__
        assert f"`{name}({', '.join(caller.spec.argnames)})`" in page


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
