"""How the compiled core is built; all else is in pyproject.toml.

Two environment switches choose another build than the optimised one:

- `EGWALKER_DEBUG=1`: no optimisation, debug symbols, C `assert`, and Cython's initialisation checks;
- `EGWALKER_TRACE=1`: every line of the `.pyx` files reports to tracers, for `coverage`.

Generated C goes to `build/cython`, never beside the sources and never into a wheel.
"""

import os
import shutil
from pathlib import Path

import Cython
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = Path("cycore")
PACKAGE = "egwalker.cycore"
GENERATED = Path("build", "cython")

DEBUG = os.environ.get("EGWALKER_DEBUG") == "1"
TRACE = os.environ.get("EGWALKER_TRACE") == "1"

DIRECTIVES = {
    "language_level": 3,
    "auto_pickle": False,
    "autotestdict": False,
    "cdivision": True,
    "embedsignature": True,
    "freethreading_compatible": True,
    "initializedcheck": DEBUG,
    "linetrace": TRACE,
}
FLAGS = ["-O0", "-g", "-UNDEBUG"] if DEBUG else ["-O3", "-g0"]
MACROS = [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1")] if TRACE else []


class BuildCore(build_ext):
    """Compiles only what changed, on all processors, with the `.pxd` files where Cython looks for them."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self) -> None:
        stamp = self._stamp_configuration()
        if self.editable_mode:
            self._reuse_inplace()
        cythonized = cythonize(
            self.extensions,
            build_dir=str(GENERATED),
            compiler_directives=DIRECTIVES,
            force=bool(self.force),
            include_path=[str(self._view_of_declarations())],
            nthreads=self.parallel,
        )
        for extension, translated in zip(self.extensions, cythonized, strict=True):
            extension.sources = translated.sources
            extension.depends = [str(stamp)]
        super().build_extensions()

    def _stamp_configuration(self) -> Path:
        """A file that is newer than whatever was built in another configuration."""
        stamp = GENERATED / "configuration"
        wanted = f"{Cython.__version__} {DIRECTIVES} {FLAGS} {MACROS}\n"
        if not stamp.is_file() or stamp.read_text() != wanted:
            shutil.rmtree(GENERATED, ignore_errors=True)
            GENERATED.mkdir(parents=True)
            stamp.write_text(wanted)
        return stamp

    def _view_of_declarations(self) -> Path:
        """Copies of the `.pxd` files under the name that they are imported by.

        For `egwalker.cycore.spans` Cython looks for `egwalker/cycore/spans.pxd` only. Where it finds none it
        goes on without the declarations: attributes become Python look-ups.
        """
        view = GENERATED / "view"
        folder = view.joinpath(*PACKAGE.split("."))
        shutil.rmtree(view, ignore_errors=True)
        folder.mkdir(parents=True)
        for package in (folder.parent, folder):
            # Without it another egwalker on `sys.path`, such as the one installed, would be asked first.
            (package / "__init__.pxd").touch()
        for path in SOURCES.glob("*.pxd"):
            # With its time, so that Cython can tell which modules are older; read-only, as errors name it.
            Path(shutil.copy2(path, folder)).chmod(0o444)
        return view

    def _reuse_inplace(self) -> None:
        """Editable installs build in an empty folder: start from what the last build left in the tree."""
        build_py = self.get_finalized_command("build_py")
        for extension in self.extensions:
            inplace, fresh = map(Path, self._get_inplace_equivalent(build_py, extension))
            if inplace.is_file():
                fresh.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(inplace, fresh)


setup(
    cmdclass={"build_ext": BuildCore},
    ext_modules=[
        Extension(f"{PACKAGE}.{path.stem}", [str(path)], define_macros=MACROS, extra_compile_args=FLAGS)
        for path in sorted(SOURCES.glob("*.pyx"))
    ],
)
