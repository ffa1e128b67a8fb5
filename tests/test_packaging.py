"""What a stranger gets: the sdist, the wheel made from it, an editable install, each in an empty environment.

The tests marked `packaging` compile the core; the others look at the installation that the tests run in.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import egwalker

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = {name: ROOT / folder for name, folder in PROJECT["tool"]["setuptools"]["package-dir"].items()}
CORE = FOLDERS["egwalker.cycore"]
MODULES = sorted(path.stem for path in CORE.glob("*.pyx"))

# What nobody would pack on purpose.
LEFTOVERS = ("*.so", "*.egg-info", "__pycache__", "build", "dist", "env", "results", "html", ".*")

SESSION = """
import egwalker
ann = egwalker.Document("text", agent="ann")
ann.insert(0, "helo")
bob = ann.fork("bob")
ann.insert(3, "l")
bob.insert(4, " world")
ann.merge(bob)
print(ann.content)
"""

HISTORY = {
    "kind": "text",
    "endContent": "23",
    "txns": [{"agent": "b", "seqStart": 0, "span": [0, 2], "parents": [], "ops": [[0, 0, "23"]]}],
}

TYPED = """
import egwalker
from egwalker.cycore.oplog import OpLog
from egwalker.plugins.text import Text

reveal_type(egwalker.Document("text").version)
reveal_type(len(OpLog().graph.frontier))
reveal_type(Text().name)
egwalker.Document("text").insert("0", "a")
"""


def call(*command: object, cwd: Path, **environment: str) -> str:
    """What the command prints on stdout; fails, showing all of its output, if it does."""
    words = [str(word) for word in command]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
    done = subprocess.run(
        words, check=False, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        said = f"{done.stdout}\n{done.stderr}"
        pytest.fail(f"{' '.join(words)} exited with {done.returncode}\n{said}", pytrace=False)
    return done.stdout


class Environment:
    """A virtual environment without anything in it."""

    def __init__(self, folder: Path) -> None:
        call(sys.executable, "-m", "virtualenv", "--quiet", folder / "env", cwd=folder)
        self.folder = folder
        self.bin = folder / "env" / "bin"
        self.python = self.bin / "python"

    def install(self, *arguments: object, cwd: Path, **environment: str) -> None:
        call(self.python, "-m", "pip", "install", "--quiet", *arguments, cwd=cwd, **environment)

    def check(self) -> None:
        """Use what is installed: the library, the console script, the types."""
        assert call(self.python, "-c", SESSION, cwd=self.folder) == "hello world\n"

        source = self.folder / "history-raw.json"
        source.write_text(json.dumps(HISTORY))
        assert call(self.bin / "egwalker", "cat", source, cwd=self.folder).strip() == "23"

        snippet = self.folder / "snippet.py"
        snippet.write_text(TYPED)
        mypy = [sys.executable, "-m", "mypy", "--strict", f"--python-executable={self.python}", str(snippet)]
        done = subprocess.run(mypy, check=False, cwd=self.folder, capture_output=True, text=True)
        said = [line.split(": ", 1)[-1] for line in done.stdout.splitlines()]
        assert said[:3] == [
            'note: Revealed type is "tuple[tuple[str, int], ...]"',
            'note: Revealed type is "int"',
            'note: Revealed type is "str"',
        ]
        assert said[3].startswith('error: Argument 1 to "insert" of "Document" has incompatible type "str"')
        assert said[4:] == ["Found 1 error in 1 file (checked 1 source file)"]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("sdist") / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*LEFTOVERS))
    call(sys.executable, "-m", "build", "--no-isolation", "--sdist", ".", cwd=tree)
    (archive,) = (tree / "dist").iterdir()
    return archive


@pytest.fixture(scope="module")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (tree,) = folder.iterdir()
    return tree


@pytest.fixture(scope="module")
def wheel(unpacked: Path) -> Path:
    call(sys.executable, "-m", "build", "--no-isolation", "--wheel", ".", cwd=unpacked)
    (archive,) = (unpacked / "dist").iterdir()
    return archive


def package_files(*patterns: str) -> set[str]:
    """The names under which files of the tree are installed."""
    return {
        f"{package.replace('.', '/')}/{path.name}"
        for package, folder in FOLDERS.items()
        for pattern in patterns
        for path in folder.glob(pattern)
    }


def browser_files() -> set[str]:
    """What the wheel has for browsers."""
    facade = FOLDERS["egwalker"]
    found = (facade / "browser").rglob("*")
    return {f"egwalker/{path.relative_to(facade).as_posix()}" for path in found if path.is_file()}


def cdef_names(declarations: str) -> set[str]:
    """What a `.pxd` declares of extension types and Python does not see."""
    names: set[str] = set()
    for body in re.findall(r"^cdef class [^\n]*:\n((?:(?: +[^\n]*)?\n)+)", declarations, re.MULTILINE):
        for line in body.splitlines():
            declared = re.match(r" {4}cdef (?!readonly|public)([^#(]*?)\b(\w+(?:, *\w+)*) *(?:\(|#|$)", line)
            if declared:
                names.update(declared[2].replace(" ", "").split(","))
    return names


def test_every_package_folder_is_declared() -> None:
    declared = set(PROJECT["tool"]["setuptools"]["packages"])
    assert declared == set(FOLDERS)
    for package, folder in FOLDERS.items():
        inner = {f"{package}.{path.parent.name}" for path in folder.glob("*/__init__.py")}
        assert inner <= declared


@pytest.mark.parametrize("module", MODULES)
def test_the_core_is_compiled_and_has_stubs(module: str) -> None:
    file = importlib.import_module(f"egwalker.cycore.{module}").__file__
    assert file is not None
    assert file.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES))
    assert (CORE / f"{module}.pyi").is_file()


def test_the_root_folder_shadows_nothing() -> None:
    """`python -m` and `-c` look into the working folder first, yet have to find the installed package."""
    script = "import egwalker, egwalker.plugins.text as text; print(egwalker.__file__); print(text.__file__)"
    package, plugin = map(Path, call(sys.executable, "-c", script, cwd=ROOT).splitlines())
    assert package == Path(egwalker.__file__)
    assert plugin == package.with_name("plugins") / "text.py"
    assert not {ROOT / "src", ROOT / "plugins"} & {*package.parents, *plugin.parents}


def test_the_version_is_the_declared_one() -> None:
    assert egwalker.__version__ == importlib.metadata.version("egwalker") == PROJECT["project"]["version"]


@pytest.mark.packaging
def test_the_sdist_is_complete_and_clean(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder in FOLDERS.values():
        for path in folder.iterdir():
            if path.suffix in {".py", ".pyi", ".pyx", ".pxd", ".typed"}:
                assert path.relative_to(ROOT).as_posix() in names
    assert {f"src/{name}" for name in browser_files()} <= names
    assert {"LICENSE", "Makefile", "setup.py", "tools/develop.py", "tests/conftest.py"} <= names
    assert not [name for name in names if name.endswith((".c", ".cpp", ".so", ".pyc"))]


@pytest.mark.packaging
def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    compiled = {f"egwalker/cycore/{module}{importlib.machinery.EXTENSION_SUFFIXES[0]}" for module in MODULES}
    assert names == package_files("*.py", "*.pyi", "*.pxd", "py.typed") | browser_files() | compiled


@pytest.mark.packaging
def test_the_wheel_works(wheel: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path)
    environment.install(wheel, cwd=tmp_path)
    environment.check()


@pytest.mark.packaging
@pytest.mark.usefixtures("wheel")
def test_modules_of_the_core_reach_each_others_c_attributes(unpacked: Path) -> None:
    """Where Cython does not find a `.pxd`, it looks attributes up by name at run time and does not say so."""
    seen = set()
    for module in MODULES:
        for value in vars(importlib.import_module(f"egwalker.cycore.{module}")).values():
            seen.update(dir(value))
    hidden = {name for path in CORE.glob("*.pxd") for name in cdef_names(path.read_text())} - seen
    assert len(hidden) > len(MODULES)
    by_name = re.compile(r"(?:GetAttr|CallMethod)\w*\([^;]*__pyx_n_\w_(\w+)")
    for module in MODULES:
        generated = (unpacked / "build" / "cython" / "cycore" / f"{module}.c").read_text()
        looked_up = set(by_name.findall(generated))
        assert looked_up, module
        assert not looked_up & hidden, module


@pytest.mark.packaging
def test_the_editable_install_works(tmp_path: Path) -> None:
    """In a debug build, which is compiled faster and checks more."""
    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*LEFTOVERS))
    environment = Environment(tmp_path)
    environment.install(*PROJECT["build-system"]["requires"], cwd=tree)
    environment.install("--no-build-isolation", "--editable", ".", cwd=tree, EGWALKER_DEBUG="1")
    environment.check()

    link = Path(call(environment.python, "-c", "import egwalker; print(egwalker.__file__)", cwd=tree).strip())
    assert link.resolve() == (tree / "src" / "egwalker" / "__init__.py").resolve()
    assert not list(tree.glob("cycore/*.c"))
