"""Find the application that a command names: the module or file, and the object or factory inside it."""

from __future__ import annotations

import ast
import inspect
import os
import sys
import traceback
import typing as t
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import click

if t.TYPE_CHECKING:
    from .app import Flask

OBJECT_NAMES = ("app", "application")
FACTORY_NAMES = ("create_app", "make_app")


WITHOUT_FLASK = (
    "Flask is not installed. Run the command as 'asyncflask --as-flask …', which makes 'flask' mean asyncflask, or"
    " write 'from asyncflask import …'."
)


class NoAppException(click.UsageError):
    """No application was found, or it could not be loaded."""


def _is_app(value: object) -> t.TypeGuard[Flask]:
    # Looked up at each call: monitoring agents rebind the class to a subclass.
    from . import Flask

    return isinstance(value, Flask)


def _refuse_foreign_app(value: object, place: str) -> None:
    """Raise NoAppException for an application of Flask's own class, told by its name, not imported."""
    if any(cls.__name__ == "Flask" and cls.__module__ == "flask.app" for cls in type(value).__mro__):
        raise NoAppException(
            f"The application '{place}' was made with Flask's own class, which cannot be served here."
            " Run the command as 'asyncflask --as-flask …', which makes 'flask' mean asyncflask, or change"
            " the import to 'from asyncflask import Flask'."
        )


def find_best_app(module: ModuleType) -> Flask:
    """The module's `app` or `application`, or its only one, or what `create_app` or `make_app` returns."""
    name = module.__name__
    for attribute in OBJECT_NAMES:
        if _is_app(found := getattr(module, attribute, None)):
            return found
        _refuse_foreign_app(found, f"{name}:{attribute}")
    apps = [value for value in vars(module).values() if _is_app(value)]
    if len(apps) > 1:
        raise NoAppException(
            f"The module '{name}' holds {len(apps)} applications. Use '{name}:name' to say which is meant."
        )
    app = apps[0] if apps else _call_known_factory(module)
    if app is not None:
        return app
    for attribute, value in vars(module).items():
        _refuse_foreign_app(value, f"{name}:{attribute}")
    raise NoAppException(
        f"The module '{name}' holds neither a Flask application nor a factory. Use '{name}:name' to name one."
    )


def _call_known_factory(module: ModuleType) -> Flask | None:
    for attribute in FACTORY_NAMES:
        factory = getattr(module, attribute, None)
        if not inspect.isfunction(factory):
            continue
        reference = f"{module.__name__}:{attribute}"
        app = call_factory(factory, f"The factory '{reference}' needs arguments. Use '{reference}(args)' to give them.")
        if _is_app(app):
            return app
        _refuse_foreign_app(app, f"{reference}()")
    return None


def call_factory(factory: Callable[..., t.Any], complaint: str, *args: t.Any, **kwargs: t.Any) -> t.Any:
    """Call a factory. NoAppException(complaint) if it can't take the arguments; its own TypeErrors pass."""
    try:
        return factory(*args, **kwargs)
    except ModuleNotFoundError as error:
        _explain_missing_flask(error)
        raise
    except TypeError as error:
        code = factory.__code__
        if any(frame.f_code is code for frame, _ in traceback.walk_tb(error.__traceback__)):
            raise  # the call went through, and the factory raised
        raise NoAppException(complaint) from error


def _explain_missing_flask(error: ModuleNotFoundError) -> None:
    if error.name == "flask":
        error.add_note(WITHOUT_FLASK)


def find_app_by_string(module: ModuleType, app_name: str) -> Flask:
    """The application that `app_name` names in the module: ``name`` or ``factory(literals)``."""
    name, args, kwargs = _parse_reference(app_name)
    try:
        found = getattr(module, name)
    except AttributeError as error:
        raise NoAppException(f"The module {module.__name__!r} has no attribute {name!r}.") from error
    place = f"{module.__name__}:{app_name}"
    if inspect.isfunction(found):
        found = call_factory(found, f"The factory '{place}' does not take these arguments.", *args, **kwargs)
    if _is_app(found):
        return found
    _refuse_foreign_app(found, place)
    raise NoAppException(f"What '{place}' gives is no Flask application.")


def _parse_reference(text: str) -> tuple[str, list[t.Any], dict[str, t.Any]]:
    """``(name, args, kwargs)`` of ``name`` or ``name(1, key="value")``."""
    try:
        expression: ast.expr | None = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        expression = None
    match expression:
        case ast.Name(id=name):
            return name, [], {}
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            return name, *_read_literals(text, args, keywords)
        case ast.Call():
            raise NoAppException(f"The factory must be a simple name of the module: {text!r}.")
    raise NoAppException(f"This is neither a name nor the call of a factory: {text!r}.")


def _read_literals(
    text: str, args: list[ast.expr], keywords: list[ast.keyword]
) -> tuple[list[t.Any], dict[str, t.Any]]:
    try:
        named = {word.arg: ast.literal_eval(word.value) for word in keywords if word.arg is not None}
        return [ast.literal_eval(arg) for arg in args], named
    except (ValueError, TypeError):
        raise NoAppException(f"The arguments of a factory must be literal values: {text!r}.") from None


def prepare_import(path: str) -> str:
    """The name to import for a file, a folder or a module's name; its starting folder is put on sys.path."""
    target = Path(os.path.realpath(path))
    if target.suffix == ".py":
        target = target.with_suffix("")
    if target.name == "__init__":
        target = target.parent
    parts = [target.name]
    folder = target.parent
    while folder.name and (folder / "__init__.py").exists():
        parts.append(folder.name)
        folder = folder.parent
    if sys.path[0] != str(folder):
        sys.path.insert(0, str(folder))
    return ".".join(reversed(parts))


@t.overload
def locate_app(module_name: str, app_name: str | None, raise_if_not_found: t.Literal[True] = True) -> Flask: ...


@t.overload
def locate_app(module_name: str, app_name: str | None, raise_if_not_found: bool) -> Flask | None: ...


def locate_app(module_name: str, app_name: str | None, raise_if_not_found: bool = True) -> Flask | None:
    """Import a module and find its application; None if it is missing and `raise_if_not_found` is false."""
    try:
        try:
            __import__(module_name)
        except ModuleNotFoundError as error:
            _explain_missing_flask(error)
            raise
    except ImportError as error:
        # A traceback that goes on below this frame began inside the module, which so exists and is broken.
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            raise NoAppException(
                f"The import of {module_name!r} raised an ImportError:\n\n{traceback.format_exc()}"
            ) from None
        if raise_if_not_found:
            raise NoAppException(f"There is no module {module_name!r} to import.") from None
        return None
    module = sys.modules[module_name]
    return find_best_app(module) if app_name is None else find_app_by_string(module, app_name)
