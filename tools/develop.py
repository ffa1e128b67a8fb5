"""Make this tree ready to work in: `.venv`, the tools of the named dependency groups, the compiled package.

    python3 tools/develop.py [GROUP ...]

Needs only Python, and is quick when there is nothing to do: it creates `.venv`, installs what is missing of
the dependency groups in pyproject.toml (`test` unless told otherwise), compiles what changed, and installs
the package editable when files were added, removed or moved. On Debian and its kin, as root, it installs a
missing C compiler, Python.h or venv module by itself, for the group `browser` a missing Chromium, and for
`browsers` a missing Firefox or WebKit; else it says in one line what is missing.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - whoever has an older one gets here and should be told
    sys.exit(f"{sys.executable} is too old: egwalker needs Python 3.11 or later (make PYTHON=python3.12 ...)")

import hashlib
import os
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
PACKAGE_FOLDERS = ("src/egwalker", "cycore", "plugins", "transports")
SUFFIXES = {".py", ".pyi", ".pyx", ".pxd", ".typed", ".js", ".css", ".html", ".svg", ".txt", ".webmanifest"}
PYTHON_NAME = f"python{sys.version_info.major}.{sys.version_info.minor}"
# What tests/browser.py looks for, too, and in which Debian packages it is.
CHROMIUM = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
FIREFOX = ("firefox", "firefox-esr")
WEBKIT = ("WebKitWebDriver",)
SCREEN = ("Xvfb",)
# For the screenshots: without any, every letter is a box.
FONTS = ("fonts-dejavu-core", "fonts-noto-color-emoji")
# The first pip that installs dependency groups.
PIP = "pip>=25.1"
QUIET_SETUPTOOLS = ("-W", "ignore:`[tool.distutils]`")


def run(*command: object) -> None:
    """Run a command in the root folder; end with its exit status if it fails."""
    words = [str(word) for word in command]
    status = subprocess.run(words, check=False, cwd=ROOT, stdin=subprocess.DEVNULL).returncode
    if status:
        sys.exit(f"failed, with status {status}: {shlex.join(words)}")


def succeeds(*command: object) -> bool:
    words = [str(word) for word in command]
    run = subprocess.run(words, check=False, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True)
    return run.returncode == 0


def system_packages(what: str, *packages: str) -> None:
    """Install Debian packages if that is possible here; else end, saying what is missing and who has it."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit(f"{what} is missing (on Debian and Ubuntu: sudo apt-get install {' '.join(packages)})")
    print(f"{what} is missing: installing {' '.join(packages)}", flush=True)
    # Stale package lists are no reason to stop: what follows says what cannot be had.
    retries = "Acquire::Retries=5"
    succeeds("apt-get", "update", "-qq", "-o", retries)
    run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq", "-o", retries, *packages)


def need_compiler() -> None:
    configured = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    if shutil.which(shlex.split(configured)[0]) is None:
        system_packages(f"the C compiler {configured!r}", "gcc", "libc6-dev")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        system_packages(f"Python.h of {sys.executable}", f"{PYTHON_NAME}-dev")


def need_browser(what: str, names: tuple[str, ...], *packages: str) -> None:
    if not any(map(shutil.which, names)):
        system_packages(what, *packages)


def make_venv() -> None:
    """Create `.venv`, also where Python comes without its `venv` or `ensurepip`."""
    if PYTHON.exists() and succeeds(PYTHON, "-m", "pip", "--version"):
        return
    shutil.rmtree(VENV, ignore_errors=True)
    if succeeds(sys.executable, "-m", "venv", VENV):
        return
    if succeeds(sys.executable, "-m", "virtualenv", VENV):
        return
    with tempfile.TemporaryDirectory() as folder:
        if succeeds(sys.executable, "-m", "pip", "install", "--target", folder, "virtualenv"):
            run("env", f"PYTHONPATH={folder}", sys.executable, "-m", "virtualenv", VENV)
            return
    shutil.rmtree(VENV, ignore_errors=True)
    system_packages(f"the venv module of {sys.executable}", f"{PYTHON_NAME}-venv")
    run(sys.executable, "-m", "venv", VENV)


def is_new(name: str, state: str) -> bool:
    """Whether `state` differs from what `done` last noted under `name`."""
    note = VENV / f"{name}.state"
    return not note.is_file() or note.read_text() != state


def done(name: str, state: str) -> None:
    (VENV / f"{name}.state").write_text(state)


def main(groups: list[str]) -> None:
    need_compiler()
    if "browser" in groups:
        need_browser("Chromium", CHROMIUM, "chromium", *FONTS)
    if "browsers" in groups:
        need_browser("Firefox", FIREFOX, "firefox-esr", *FONTS)
        need_browser("WebKit's driver", WEBKIT, "webkit2gtk-driver", *FONTS)
        need_browser("Xvfb", SCREEN, "xvfb")
    make_venv()

    project = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    missing = [group for group in groups if is_new(f"group-{group}", project)]
    if missing:
        run(PYTHON, "-m", "pip", "install", "--quiet", PIP)
        run(PYTHON, "-m", "pip", "install", "--quiet", *(f"--group={group}" for group in missing))
        for group in missing:
            done(f"group-{group}", project)

    run(PYTHON, *QUIET_SETUPTOOLS, "setup.py", "--quiet", "build_ext", "--inplace")
    # An editable install links the files that there were, at the place where the tree was.
    found = (path for folder in PACKAGE_FOLDERS for path in ROOT.joinpath(folder).rglob("*"))
    files = sorted(str(path) for path in found if path.suffix in SUFFIXES)
    state = "\n".join([project, *files])
    if is_new("install", state) or not any(ROOT.glob("build/__editable__.*")):
        quietly = ("env", "PYTHONWARNINGS=ignore", PYTHON, "-m", "pip", "install", "--quiet")
        run(*quietly, "--no-build-isolation", "--editable", ".")
        done("install", state)


if __name__ == "__main__":
    main(["build", *(sys.argv[1:] or ["test"])])
