"""What an error most probably comes from, for code that is on its way here from Flask or Quart.

Loaded when the first error of a request is logged or propagated. HINTS is read from its top: by the error's class and
its text, then by a function that looks at the traceback. A hint becomes a note of the error (PEP 678), so that it
stands in the log, in every traceback and on the debugger's page.
"""

from __future__ import annotations

import ast
import linecache
import os
import re
import sys
import typing as t
from collections.abc import Callable, Iterator
from contextlib import suppress
from inspect import iscoroutine
from itertools import islice
from types import FrameType, ModuleType

from werkzeug.local import LocalProxy

from .globals import _no_app_msg, _no_req_msg

if t.TYPE_CHECKING:
    from .app import Flask

MOST_PARTS = 20  # of a chain of causes, or of a group
_HERE = os.path.dirname(__file__) + os.sep
_STANDARD_LIBRARY = os.path.dirname(os.__file__) + os.sep
_INSTALLED = re.compile(r"[/\\](?:site|dist)-packages[/\\]")
# Quart's habit is to wait for all of these. What a user's own code gives has other types, most of the time.
GIVEN_TYPES = {
    *("str", "bytes", "dict", "list", "Response", "FileStorage"),
    *("MultiDict", "ImmutableMultiDict", "CombinedMultiDict", "SecureCookieSession", "NullSession"),
}
RENAMED = {
    "attachment_filename": "download_name",
    "cache_timeout": "max_age",
    "add_etags": "etag",
    "filename": "path",
}


def add_hints(app: Flask, error: BaseException) -> None:
    """Add to an error, to its causes and to the members of a group the notes that HINTS has for them."""
    for part in _iter_parts(error):
        with suppress(Exception):  # nothing that fails in here may take the error's place
            hint = find_hint(app, part)
            if hint is not None and hint not in getattr(part, "__notes__", ()):
                part.add_note(hint)


def _iter_parts(error: BaseException) -> Iterator[BaseException]:
    parts, seen = [error], set[int]()
    while parts and len(seen) < MOST_PARTS:
        part = parts.pop()
        if id(part) not in seen:
            seen.add(id(part))
            yield part
            members = part.exceptions if isinstance(part, BaseExceptionGroup) else ()
            before = part.__cause__ if part.__suppress_context__ else part.__context__
            parts.extend((*members, before) if before is not None else members)


def find_hint(app: Flask, error: BaseException) -> str | None:
    for cls, pattern, explain in HINTS:
        if isinstance(error, cls) and error.__traceback__ is not None and (match := pattern.search(str(error))):
            hint = explain(Case(app, error, match))
            if hint is not None:
                return f"Hint: {hint}"
    return None


class Place:
    """One entry of a traceback."""

    def __init__(self, frame: FrameType, instruction: int) -> None:
        self.frame = frame
        self.instruction = instruction

    @property
    def file(self) -> str:
        return self.frame.f_code.co_filename

    @property
    def package(self) -> str:
        """Ours has our name under the alias too."""
        if self.file.startswith(_HERE):
            return str(__package__)
        return _first(self.frame.f_globals.get("__name__"))

    def is_of_user(self, import_name: str) -> bool:
        """Whether the application's author wrote it: it is not installed, or belongs to the application's package."""
        if self.package == _first(import_name):
            return True
        libraries = (_HERE, _STANDARD_LIBRARY, "<")
        return not self.file.startswith(libraries) and _INSTALLED.search(self.file) is None

    def parse(self) -> ast.AST | None:
        """What the failing instruction stands for: an expression, or a whole statement. None without the source."""
        positions = next(islice(self.frame.f_code.co_positions(), self.instruction // 2, None))
        source = self._read(*positions)
        for before, after in (("(", "\n)"), ("", "")) if source.strip() else ():
            with suppress(SyntaxError):
                body = ast.parse(f"{before}{source}{after}").body
                statement = body[0] if len(body) == 1 else None
                return statement.value if isinstance(statement, ast.Expr) else statement
        return None

    def _read(self, first: int | None, last: int | None, start: int | None, end: int | None) -> str:
        if first is None or last is None:
            return ""
        names = self.frame.f_globals
        lines = [linecache.getline(self.file, number, names).encode() for number in range(first, last + 1)]
        lines[-1] = lines[-1][:end]  # columns are those of UTF-8
        lines[0] = lines[0][start:]
        return b"".join(lines).decode()


def _first(name: object) -> str:
    return str(name).partition(".")[0]


class Case:
    """An error with the match of its text and its traceback."""

    def __init__(self, app: Flask, error: BaseException, match: re.Match[str]) -> None:
        self.app = app
        self.error = error
        self.match = match
        self.places: list[Place] = []
        trace = error.__traceback__
        while trace is not None:
            self.places.append(Place(trace.tb_frame, trace.tb_lasti))
            trace = trace.tb_next

    @property
    def last(self) -> Place:
        return self.places[-1]


# What is sync here and was awaited


def explain_await(case: Case) -> str | None:
    return _explain_sync(case, "leave out the 'await'")


def explain_async_with(case: Case) -> str | None:
    return _explain_sync(case, "write 'with' in place of 'async with'")


def explain_async_for(case: Case) -> str | None:
    return _explain_sync(case, "write 'for' in place of 'async for'")


def _explain_sync(case: Case, advice: str) -> str | None:
    if not case.last.is_of_user(case.app.import_name):
        return None
    expression = _find_awaited(case.last.parse())
    shown = "" if expression is None else ast.unparse(expression)
    if expression is not None and _is_ours(expression, case.last.frame):
        return f"'{shown}' is sync here, as in Flask: {advice}."
    given = next(filter(None, case.match.groups()))
    if given not in GIVEN_TYPES:
        return None
    return (
        f"{_quote(shown)} gave a {given} at once, there is nothing to wait for: {advice}."
        " What asyncflask shares with Flask is sync, in async views too."
    )


def _quote(shown: str) -> str:
    return f"'{shown}'" if shown else "The expression"


def _find_awaited(node: ast.AST | None) -> ast.expr | None:
    """The one operand of `await`, `async with` or `async for`. Python 3.11 reports the latter two as a whole."""
    match node:
        case ast.Await(value=value):
            return value
        case ast.AsyncWith(items=[item]):
            return item.context_expr
        case ast.AsyncFor(iter=iterated):
            return iterated
        case ast.ListComp(generators=parts) | ast.SetComp(generators=parts) | ast.GeneratorExp(generators=parts):
            iterated_async = [part.iter for part in parts if part.is_async]
            return iterated_async[0] if len(iterated_async) == 1 else None
    return node if isinstance(node, ast.expr) else None


def _is_ours(expression: ast.expr, frame: FrameType) -> bool:
    """Whether `expression` begins with a name of asyncflask's: `render_template(…)`, `request.form["x"]`."""
    root, attributes = _split_chain(expression)
    value = frame.f_locals.get(root, frame.f_globals.get(root))
    while isinstance(value, ModuleType) and attributes:
        value = vars(value).get(attributes.pop(0)) if _first(value.__package__) == __package__ else None
    if _first(getattr(type(value), "__module__", "")) == __package__ or isinstance(value, LocalProxy):
        cls = value.__class__  # of what a proxy stands for
        return bool(attributes) and _is_own_attribute(cls, attributes[0])
    return callable(value) and _first(getattr(value, "__module__", "")) == __package__


def _split_chain(node: ast.AST) -> tuple[str, list[str]]:
    """``("request", ["files", "getlist"])`` of ``request.files.getlist("x")[0]``."""
    attributes: list[str] = []
    while not isinstance(node, ast.Name):
        match node:
            case ast.Attribute(value=value, attr=name):
                attributes.insert(0, name)
                node = value
            case ast.Call(func=value) | ast.Subscript(value=value):
                node = value
            case _:
                return "", []
    return node.id, attributes


def _is_own_attribute(cls: type, name: str) -> bool:
    """Whether a class of ours has it, and no subclass of the user's has its own."""
    owner = next((base for base in cls.__mro__ if name in vars(base)), None)
    is_ours = any(_first(base.__module__) == __package__ for base in cls.__mro__)
    return is_ours and owner is not None and _first(owner.__module__) in {__package__, "werkzeug", "builtins"}


# What is async and was not awaited


def explain_coroutine(case: Case) -> str:
    if "async_generator" in case.match[0]:
        return (
            "an async generator stands where its values are wanted: go through it with 'async for', or collect them:"
            " [item async for item in rows()]. Returned by itself, a view's async generator is streamed."
        )
    name = _name_coroutine(case)
    return (
        f"a coroutine stands where its result is wanted: {f'write {name!r}' if name else 'await it'}."
        " A sync function becomes an 'async def' for that."
    )


def _name_coroutine(case: Case) -> str | None:
    """``await fetch()``, where it is sure which coroutine it is."""
    made = [getattr(case.error, "obj", None)]
    if not iscoroutine(made[0]):
        if case.last.is_of_user(case.app.import_name):
            call = _find_one_call(case.last.parse())
            return None if call is None else f"await {ast.unparse(call)}"
        made = [value for value in case.last.frame.f_locals.values() if iscoroutine(value)]
    return f"await {made[0].__name__}(…)" if len(made) == 1 and iscoroutine(made[0]) else None


def _find_one_call(node: ast.AST | None) -> ast.Call | None:
    calls = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.Call)] if node else []
    return calls[0] if len(calls) == 1 else None


# Flask's own proxies, or Quart's, beside ours


def explain_foreign_context(case: Case) -> str | None:
    foreign = "quart" if case.match[0].startswith("Not within") else "flask"
    is_own = str(case.error) in (_no_app_msg, _no_req_msg) or case.last.package not in _PROXIED
    module = sys.modules.get(foreign)
    if is_own or module is None or module.__package__ == __package__:
        return None
    place = next((place for place in reversed(case.places) if place.package not in {*_PROXIED, __package__}), None)
    return None if place is None else f"{_find_import(place, foreign)} {WAYS_OUT[foreign]}"


def _find_import(place: Place, package: str) -> str:
    pattern = re.compile(rf"\s*(?:from|import)\s+{package}\b")
    for number, line in enumerate(linecache.getlines(place.file, place.frame.f_globals), 1):
        if pattern.match(line):
            return f"{place.file}, line {number}, imports {package} itself ('{line.strip()}')."
    return f"{place.file}, in {place.frame.f_code.co_name}, uses what comes from {package} itself."


_PROXIED = ("werkzeug", "flask", "quart")
WAYS_OUT = {
    "flask": (
        "Its proxies know nothing of this application: import from asyncflask instead. Where the code is not yours,"
        " let 'flask' mean asyncflask: run 'asyncflask --as-flask …', or call asyncflask.alias.install() before"
        " anything imports flask."
    ),
    "quart": "Its proxies know nothing of this application: import from asyncflask instead, and leave out the 'await'.",
}


# Event loops


def explain_loop_running(case: Case) -> str:
    return (
        "this code is on the event loop already: 'await' the coroutine instead. A sync function that has to run a loop"
        " of its own can do so in a thread: await current_app.ensure_async(function)(…)."
    )


def explain_no_loop(case: Case) -> str:
    return (
        "sync views and hooks run in threads without an event loop. Make the view an 'async def', and it is on the"
        " loop. In sync code, current_app.ensure_sync(async_function)(…) waits for a result."
    )


def explain_thread(case: Case) -> str:
    return (
        "a sqlite3 connection belongs to the thread that made it. The sync hooks and views of a request share a thread,"
        " and async code runs on the event loop. Use the connection in sync code alone (async code can do so by"
        " await current_app.ensure_async(function)(…)), or connect with check_same_thread=False."
    )


# Parameters that are gone


def explain_renamed(case: Case) -> str | None:
    old = case.match["old"] or "filename"
    node = case.last.parse()
    inside = case.last.package in (__package__, "werkzeug")
    if not inside and not (isinstance(node, ast.Call) and _is_ours(node, case.last.frame)):
        return None
    return f"Flask 2.2 renamed the parameter '{old}': write '{RENAMED[old]}'."


_LOST = "(?:coroutine|async_generator)"
HINTS: tuple[tuple[tuple[type[Exception], ...], re.Pattern[str], Callable[[Case], str | None]], ...] = (
    (
        (TypeError, AttributeError),
        re.compile(
            rf"^'{_LOST}' object (?!can't be awaited)|^Object of type {_LOST} is not JSON|but it was an? {_LOST}\.$"
            rf"|instances of .*'{_LOST}'|^unsupported operand type.*'{_LOST}'|(?:object|argument) of type '{_LOST}'"
            rf"|non-iterable {_LOST} object|\bnot ['\"]?{_LOST}['\"]?(?:$|\) to)|{_LOST} found$"
            rf"|passed to {_LOST}\.__format__|, got {_LOST}$|^object {_LOST} can't be used"
        ),
        explain_coroutine,
    ),
    (
        (TypeError,),
        re.compile(r"^object (\S+) can't be used in 'await' expression$|^'(\S+)' object can't be awaited$"),
        explain_await,
    ),
    (
        (TypeError, AttributeError),
        re.compile(r"^'(\S+)' object does not support the asynchronous context manager protocol"),
        explain_async_with,
    ),
    (
        (TypeError,),
        re.compile(r"^'async for' requires an object with __aiter__ method, got (\S+)$"),
        explain_async_for,
    ),
    (
        (RuntimeError,),
        re.compile(
            r"^Working outside of (?:application|request) context|can only be used when a request context is active"
            r"|^Not within an? (?:app|request|websocket) context"
        ),
        explain_foreign_context,
    ),
    (
        (RuntimeError,),
        re.compile(
            r"\.run\(\) cannot be called from a running event loop|^[Tt]his event loop is already running"
            r"|^Cannot run the event loop while another loop is running|^Already running asyncio in this thread"
        ),
        explain_loop_running,
    ),
    (
        (RuntimeError,),
        re.compile(r"^no running event loop$|^There is no current event loop in thread "),
        explain_no_loop,
    ),
    (
        (Exception,),  # sqlite3's, which not every application imports
        re.compile("^SQLite objects created in a thread can only be used in that same thread"),
        explain_thread,
    ),
    (
        (TypeError,),
        re.compile(
            rf"\bsend_(?:file|from_directory)\(\) (?:got an unexpected keyword argument '(?P<old>{'|'.join(RENAMED)})'"
            r"|missing 1 required positional argument: 'path')"
        ),
        explain_renamed,
    ),
)
