"""The complex types, named once. ASGI: asgi.readthedocs.io, specification 3.0; WSGI: PEP 3333."""

from __future__ import annotations

import typing as t
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

if t.TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from werkzeug.datastructures import Headers
    from werkzeug.sansio.response import Response

__all__ = [
    "ASGIApp",
    "AfterRequestCallable",
    "AppOrBlueprintKey",
    "BeforeFirstRequestCallable",
    "BeforeRequestCallable",
    "ErrorHandlerCallable",
    "HeaderValue",
    "HeadersValue",
    "Receive",
    "ResponseReturnValue",
    "ResponseValue",
    "RouteCallable",
    "Scope",
    "Send",
    "ShellContextProcessorCallable",
    "StartResponse",
    "TeardownCallable",
    "TemplateContextProcessorCallable",
    "TemplateFilterCallable",
    "TemplateGlobalCallable",
    "TemplateTestCallable",
    "URLDefaultCallable",
    "URLValuePreprocessorCallable",
    "WSGIApplication",
    "WSGIEnvironment",
]


Scope = t.MutableMapping[str, t.Any]
Message = t.MutableMapping[str, t.Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

ResponseValue = t.Union[
    "Response",
    str,
    bytes,
    list[t.Any],
    Mapping[str, t.Any],
    Iterator[str],
    Iterator[bytes],
    AsyncIterator[str],
    AsyncIterator[bytes],
    "WSGIApplication",
]
HeaderValue = str | list[str] | tuple[str, ...]
HeadersValue = t.Union[
    "Headers",
    Mapping[str, HeaderValue],
    Sequence[tuple[str, HeaderValue]],
]
ResponseReturnValue = t.Union[
    ResponseValue,
    tuple[ResponseValue, HeadersValue],
    tuple[ResponseValue, int],
    tuple[ResponseValue, int, HeadersValue],
    "WSGIApplication",
]
ResponseClass = t.TypeVar("ResponseClass", bound="Response")

AppOrBlueprintKey = str | None
AfterRequestCallable = Callable[[ResponseClass], ResponseClass] | Callable[[ResponseClass], Awaitable[ResponseClass]]
BeforeFirstRequestCallable = Callable[[], None] | Callable[[], Awaitable[None]]
BeforeRequestCallable = Callable[[], ResponseReturnValue | None] | Callable[[], Awaitable[ResponseReturnValue | None]]
ShellContextProcessorCallable = Callable[[], dict[str, t.Any]]
TeardownCallable = Callable[[BaseException | None], None] | Callable[[BaseException | None], Awaitable[None]]
TemplateContextProcessorCallable = Callable[[], dict[str, t.Any]] | Callable[[], Awaitable[dict[str, t.Any]]]
TemplateFilterCallable = Callable[..., t.Any]
TemplateGlobalCallable = Callable[..., t.Any]
TemplateTestCallable = Callable[..., bool]
URLDefaultCallable = Callable[[str, dict[str, t.Any]], None]
URLValuePreprocessorCallable = Callable[[str | None, dict[str, t.Any] | None], Awaitable[None] | None]
# As in Flask: Any, since a handler for one class need not accept every exception.
ErrorHandlerCallable = Callable[[t.Any], ResponseReturnValue] | Callable[[t.Any], Awaitable[ResponseReturnValue]]
RouteCallable = (
    Callable[..., ResponseReturnValue]
    | Callable[..., Awaitable[ResponseReturnValue]]
    | Callable[..., AsyncIterator[t.Any]]
)
