"""Errors and reports which explain usual mistakes in debug mode."""

from __future__ import annotations

import typing as t
from functools import cache

from jinja2.loaders import BaseLoader
from werkzeug.routing import RequestRedirect

from .globals import _cv_request

if t.TYPE_CHECKING:
    from .app import Flask
    from .scaffold import Scaffold
    from .wrappers import Request

TemplateSource = tuple[str, str | None, t.Callable[[], bool] | None]
LoadingAttempt = tuple[BaseLoader, "Scaffold", TemplateSource | None]


class UnexpectedUnicodeError(AssertionError, UnicodeError):
    """Text where bytes were expected, or the other way round."""


class DebugFilesKeyError(KeyError, AssertionError):
    """A key of `request.files` which the form sent as plain text, since its enctype was not multipart."""

    def __init__(self, request: Request, key: str) -> None:
        self.msg: str = (
            f"The file {key!r} was looked up in request.files, but it is not there: the request's mimetype is"
            f" {request.mimetype!r} instead of 'multipart/form-data', so no file contents were transmitted."
            ' Set enctype="multipart/form-data" on the form.'
        )
        names = ", ".join(map(repr, request.form.getlist(key)))
        self.msg += f"\n\nThe browser sent file names instead. This was submitted: {names}"

    def __str__(self) -> str:
        return self.msg


class FormDataRoutingRedirect(AssertionError):
    """A routing redirect on which a browser would drop the method or the body."""

    def __init__(self, request: Request) -> None:
        redirect = request.routing_exception
        assert isinstance(redirect, RequestRedirect)
        text = (
            f"A request was sent to '{request.url}', but routing redirects it to the canonical URL"
            f" '{redirect.new_url}'."
        )
        if redirect.new_url.partition("?")[0] == f"{request.base_url}/":
            text += " The URL was defined with a trailing slash and is redirected to when sent without one."
        super().__init__(
            f"{text} Send requests to the canonical URL, or redirect with 307 or 308: otherwise browsers"
            " drop form data.\n\nThis error is only raised in debug mode."
        )


@cache
def _make_explaining_class(base: type) -> type:
    class ExplainingFiles(base):  # type: ignore[misc]  # its base is whatever class request.files has
        def __getitem__(self, key: str) -> t.Any:
            try:
                return super().__getitem__(key)
            except KeyError as error:
                if key not in self._request.form:
                    raise
                explained = DebugFilesKeyError(self._request, key)
                raise explained.with_traceback(error.__traceback__) from None

    ExplainingFiles.__name__ = base.__name__
    ExplainingFiles.__module__ = base.__module__
    return ExplainingFiles


def attach_enctype_error_multidict(request: Request) -> None:
    """Let `request.files[key]` raise DebugFilesKeyError where the form has the key."""
    files: t.Any = request.files
    files.__class__ = _make_explaining_class(files.__class__)
    files._request = request


def _dump_loader_info(loader: BaseLoader) -> t.Iterator[str]:
    """The loader's class, then its public attributes which are plain values or lists of strings."""
    yield f"class: {type(loader).__module__}.{type(loader).__name__}"
    for key, value in sorted(vars(loader).items()):
        if key.startswith("_"):
            continue
        if isinstance(value, (str, int, float, bool)):
            yield f"{key}: {value!r}"
        elif isinstance(value, (tuple, list)) and all(isinstance(item, str) for item in value):
            yield f"{key}:"
            yield from (f"  - {item}" for item in value)


def _describe_source(app: Flask, source: Scaffold) -> str:
    if source is app:
        return f"application {app.import_name!r}"
    return f"blueprint {source.name!r} ({source.import_name})"


def _describe_attempt(app: Flask, number: int, attempt: LoadingAttempt) -> t.Iterator[str]:
    loader, source, found = attempt
    yield f"{number:5}: trying loader of {_describe_source(app, source)}"
    yield from (f"       {line}" for line in _dump_loader_info(loader))
    yield "       -> no match" if found is None else f"       -> found ({found[1] or '<string>'!r})"


def _explain_blueprint() -> t.Iterator[str]:
    context = _cv_request.get(None)
    if context is None or context.request.blueprint is None:
        return
    yield (
        f"  The template was looked up from an endpoint that belongs to the blueprint {context.request.blueprint!r}."
    )
    yield "  Is the template in the folder you meant?"
    yield "  See https://flask.palletsprojects.com/blueprints/#templates"


def explain_template_loading_attempts(app: Flask, template: str, attempts: list[LoadingAttempt]) -> None:
    """Log where a template was looked for, and what is suspect: no match, or several."""
    report = [f"Locating template {template!r}:"]
    for number, attempt in enumerate(attempts, 1):
        report += _describe_attempt(app, number, attempt)
    matches = sum(found is not None for _, _, found in attempts)
    if matches == 0:
        report.append("Error: the template could not be found.")
    elif matches > 1:
        report.append("Warning: multiple loaders returned a match for the template.")
    if matches != 1:
        report += _explain_blueprint()
    app.logger.info("\n".join(report))
