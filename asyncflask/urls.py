"""URLs, redirects, aborts and responses through the current application."""

from __future__ import annotations

import typing as t

from werkzeug.exceptions import abort as _abort_without_app
from werkzeug.utils import redirect as _redirect_without_app

from .globals import current_app

if t.TYPE_CHECKING:
    from werkzeug.wrappers import Response as BaseResponse

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
