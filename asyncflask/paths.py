"""Where a module or package lives, and the two flags which the environment sets."""

from __future__ import annotations

import importlib.util
import os
import sys
import typing as t
from importlib.machinery import ModuleSpec
from pathlib import Path, PurePath

_NO = frozenset({"0", "false", "no"})


def get_debug_flag() -> bool:
    """Whether FLASK_DEBUG is set, and not to one of 0, false, no."""
    value = os.environ.get("FLASK_DEBUG")
    return bool(value) and str(value).lower() not in _NO


def get_load_dotenv(default: bool = True) -> bool:
    """Whether dotenv files are to be loaded: FLASK_SKIP_DOTENV says no; `default` where it is not set."""
    value = os.environ.get("FLASK_SKIP_DOTENV")
    return value.lower() in _NO if value else default


def _find_spec(name: str) -> ModuleSpec | None:
    """The module's spec; None where it cannot be found, as for ``__main__`` in an interactive session."""
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None


def get_root_path(import_name: str) -> str:
    """The folder of a module or package, else the working directory. RuntimeError for one without a file."""
    module = sys.modules.get(import_name)
    filename = getattr(module, "__file__", None)
    if filename is None:
        spec = _find_spec(import_name)
        if spec is None or spec.loader is None:
            return os.getcwd()
        filename = _ask_loader(spec.loader, import_name)
    return os.path.dirname(os.path.abspath(filename))


def _ask_loader(loader: t.Any, import_name: str) -> str:
    """The module's file without importing it, if the loader can tell."""
    if hasattr(loader, "get_filename"):
        return str(loader.get_filename(import_name))
    __import__(import_name)
    filename = getattr(sys.modules[import_name], "__file__", None)
    if filename is None:
        raise RuntimeError(
            f"The module {import_name!r} has no file, so its root path cannot be found: it is a namespace"
            " package, or an import hook made it. Pass root_path explicitly."
        )
    return str(filename)


def _find_package_path(import_name: str) -> str:
    """The folder from which the name's first part is imported."""
    root = _find_spec(import_name.partition(".")[0])
    if root is None:
        return os.getcwd()
    if not root.submodule_search_locations:
        return os.path.dirname(str(root.origin))
    if root.origin is None or root.origin == "namespace":
        return os.path.dirname(_find_portion(root.submodule_search_locations, import_name))
    return os.path.dirname(os.path.dirname(root.origin))


def _find_portion(locations: list[str], import_name: str) -> str:
    """The one of a namespace's folders which holds the submodule; the first where none does."""
    spec = importlib.util.find_spec(import_name)
    # Not indexed: a namespace's path is no real list.
    folders = list(locations)
    if spec is None or not spec.submodule_search_locations:
        return folders[0]
    package = Path(os.path.commonpath(list(spec.submodule_search_locations)))
    return next(folder for folder in folders if package.is_relative_to(folder))


def find_package(import_name: str) -> tuple[str | None, str]:
    """``(prefix, folder)``: where a package is installed, or None, and where it is imported from."""
    folder = _find_package_path(import_name)
    prefix = os.path.abspath(sys.prefix)
    if PurePath(folder).is_relative_to(prefix):
        return prefix, folder
    parent, name = os.path.split(folder)
    return (_find_site_prefix(parent) if name.lower() == "site-packages" else None), folder


def _find_site_prefix(parent: str) -> str:
    """The prefix above ``site-packages``: it stands in ``Lib`` on Windows, in ``lib/pythonX.Y`` elsewhere."""
    above, name = os.path.split(parent)
    if name.lower() == "lib":
        return above
    if os.path.basename(above).lower() == "lib":
        return os.path.dirname(above)
    return parent
