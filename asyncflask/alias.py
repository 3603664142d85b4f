"""`flask`, in this process, means asyncflask: its modules by name, and what the package index says about it."""

from __future__ import annotations

import sys
import typing as t
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, DistributionFinder
from os import PathLike
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

# The Flask whose behaviour this is.
FLASK_VERSION = "3.1.3"
# All others of ours stay hidden: extensions probe for modules to tell Flask's version.
MODULES = (
    *("app", "blueprints", "cli", "config", "ctx", "debughelpers", "globals", "helpers", "json", "json.provider"),
    *("json.tag", "logging", "sessions", "signals", "templating", "testing", "typing", "views", "wrappers"),
)
# What Flask keeps in modules of their own, and where it is here.
SANSIO: dict[str, tuple[str, ...]] = {"app": ("app",), "blueprints": ("blueprints",), "scaffold": ("paths", "scaffold")}


def install() -> None:
    """Make `import flask` and its submodules mean asyncflask from now on.

    Raises RuntimeError where the real Flask was imported before, since names taken from it would stay.
    """
    root = sys.modules[str(__package__)]
    found = sys.modules.get("flask", root)
    if found is not root:
        raise RuntimeError(
            f"Flask itself was imported already, from {getattr(found, '__file__', None)!r}: what was taken from it"
            " would stay Flask's. Install the alias before anything imports flask: 'asyncflask --as-flask' for"
            " commands, 'pytest -p asyncflask.as_flask' for tests, or 'import asyncflask.as_flask' as the first line."
        )
    if "flask" in sys.modules:
        return
    sys.modules["flask"] = root
    sys.meta_path.insert(0, _Finder())
    for name in MODULES:
        module = sys.modules[f"flask.{name}"] = import_module(f".{name}", __package__)
        if not hasattr(module, "__path__"):  # a package's name is needed to import what is in it
            module.__name__ = f"flask.{name}"  # by which filters of warnings know it
    _hide_others(root)
    _add_sansio(root)


def _hide_others(root: ModuleType) -> None:
    """None stands for a module that is not there: imports fail, and `find_spec` finds nothing."""
    for found in iter_modules(root.__path__, "flask."):
        if found.name != "flask.__main__":  # by which runpy runs the command
            sys.modules.setdefault(found.name, t.cast(ModuleType, None))


def _add_sansio(root: ModuleType) -> None:
    package = _make_module("flask.sansio")
    package.__path__ = []
    root.sansio = sys.modules["flask.sansio"] = package  # type: ignore[attr-defined]  # only under the alias
    for name, sources in SANSIO.items():
        module = _make_module(f"flask.sansio.{name}")
        for source in sources:
            names = vars(import_module(f".{source}", __package__))
            vars(module).update({key: value for key, value in names.items() if not key.startswith("__")})
        setattr(package, name, module)
        sys.modules[module.__name__] = module
    package.app.App = root.Flask


def _make_module(name: str) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)  # `find_spec` asks the module for it
    return module


class _Finder(DistributionFinder):
    """Answers for the distribution "flask"."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        """It has no modules."""

    def find_distributions(self, context: DistributionFinder.Context | None = None) -> Iterator[Distribution]:
        if context is None or context.name is None or context.name.lower() == "flask":
            yield _FlaskDistribution()


class _FlaskDistribution(Distribution):
    """The Flask whose behaviour this is, also where another one is installed, or none."""

    def read_text(self, filename: str) -> str | None:
        if filename == "METADATA":
            return f"Metadata-Version: 2.4\nName: Flask\nVersion: {FLASK_VERSION}\n"
        return "flask\n" if filename == "top_level.txt" else None

    def locate_file(self, path: str | PathLike[str]) -> Path:
        return Path(__file__).parent / path
