"""URLs, redirects, aborts and responses through the current application."""

from __future__ import annotations

import typing as t
from urllib.parse import quote

from werkzeug.exceptions import abort as _abort_without_app
from werkzeug.routing import BuildError
from werkzeug.utils import redirect as _redirect_without_app

from .globals import _cv_app, _cv_request, current_app

if t.TYPE_CHECKING:
    from werkzeug.routing import MapAdapter
    from werkzeug.wrappers import Response as BaseResponse

    from .app import Flask
    from .wrappers import Response


def url_for(
    endpoint: str,
    *,
    _anchor: str | None = None,
    _method: str | None = None,
    _scheme: str | None = None,
    _external: bool | None = None,
    **values: t.Any,
) -> str:
    """The URL of an endpoint; ``.name`` means the current blueprint's. External outside of a request."""
    return current_app.url_for(
        endpoint, _anchor=_anchor, _method=_method, _scheme=_scheme, _external=_external, **values
    )


def redirect(location: str, code: int = 302, Response: type[BaseResponse] | None = None) -> BaseResponse:
    """A redirect response, by `app.redirect` where there is an application; only else is `Response` used."""
    if current_app:
        return current_app.redirect(location, code=code)
    return _redirect_without_app(location, code=code, Response=Response)


def abort(code: int | BaseResponse, *args: t.Any, **kwargs: t.Any) -> t.NoReturn:
    """Raise the HTTPException of a status code, by `app.aborter` where there is an application."""
    if current_app:
        current_app.aborter(code, *args, **kwargs)
    _abort_without_app(code, *args, **kwargs)


def make_response(*args: t.Any) -> Response:
    """The response object of what a view may return: nothing, one value, or the parts of a tuple."""
    if not args:
        return current_app.response_class()
    return current_app.make_response(args[0] if len(args) == 1 else args)


def build_url(
    app: Flask,
    endpoint: str,
    values: dict[str, t.Any],
    anchor: str | None,
    method: str | None,
    scheme: str | None,
    external: bool | None,
) -> str:
    """What `Flask.url_for` does. Raises RuntimeError outside of a request without SERVER_NAME."""
    adapter, endpoint, is_outside = _find_adapter(app, endpoint)
    if external is None:
        external = is_outside or scheme is not None
    if scheme is not None and not external:
        raise ValueError("When specifying '_scheme', '_external' must be True.")
    app.inject_url_defaults(endpoint, values)
    try:
        url = adapter.build(endpoint, values, method=method, url_scheme=scheme, force_external=external)
    except BuildError as error:
        values.update(_anchor=anchor, _method=method, _scheme=scheme, _external=external)
        return app.handle_url_build_error(error, endpoint, values)
    return url if anchor is None else f"{url}#{quote(anchor, safe='%!#$&()*+,/:;=?@')}"


def _find_adapter(app: Flask, endpoint: str) -> tuple[MapAdapter, str, bool]:
    """What builds the URL, the full endpoint, and whether this is outside of a request."""
    ctx = _cv_request.get(None)
    if ctx is not None:
        if endpoint[:1] == ".":
            blueprint = ctx.request.blueprint
            endpoint = endpoint[1:] if blueprint is None else f"{blueprint}{endpoint}"
        return t.cast("MapAdapter", ctx.url_adapter), endpoint, False
    app_ctx = _cv_app.get(None)
    adapter = app.create_url_adapter(None) if app_ctx is None else app_ctx.url_adapter
    if adapter is None:
        raise RuntimeError(
            "Unable to build URLs outside an active request without 'SERVER_NAME' configured. Also configure"
            " 'APPLICATION_ROOT' and 'PREFERRED_URL_SCHEME' as needed."
        )
    return adapter, endpoint, True
