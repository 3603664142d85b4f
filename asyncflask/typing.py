"""The complex types, named once. ASGI: asgi.readthedocs.io, specification 3.0; WSGI: PEP 3333."""

from __future__ import annotations

import typing as t
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

if t.TYPE_CHECKING:
    from types import TracebackType

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from werkzeug.datastructures import Headers
    from werkzeug.sansio.response import Response

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

__all__ = [
    "ASGIApp",
    "AfterRequestCallable",
    "AfterWebsocketCallable",
    "AppOrBlueprintKey",
    "BeforeFirstRequestCallable",
    "BeforeRequestCallable",
    "BeforeWebsocketCallable",
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
    "WebsocketCallable",
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
RouteCallable = Callable[..., ResponseReturnValue] | Callable[..., Awaitable[ResponseReturnValue]]
BeforeWebsocketCallable = BeforeRequestCallable
AfterWebsocketCallable = Callable[[t.Any], t.Any]
WebsocketCallable = Callable[..., Awaitable[ResponseReturnValue | None]] | Callable[..., ResponseReturnValue | None]
ServingCallable = Callable[[], object] | Callable[[], Awaitable[object]]
WhileServingCallable = Callable[[], Iterator[t.Any]] | Callable[[], AsyncIterator[t.Any]]

# A decorator gives back the type it was given.
T_route = t.TypeVar("T_route", bound=RouteCallable)
T_error_handler = t.TypeVar("T_error_handler", bound=ErrorHandlerCallable)
T_before_request = t.TypeVar("T_before_request", bound=BeforeRequestCallable)
T_after_request = t.TypeVar(
    "T_after_request", bound=Callable[[t.Any], "Response"] | Callable[[t.Any], Awaitable["Response"]]
)
T_websocket = t.TypeVar("T_websocket", bound=WebsocketCallable)
T_serving = t.TypeVar("T_serving", bound=ServingCallable)
T_while_serving = t.TypeVar("T_while_serving", bound=WhileServingCallable)
T_before_websocket = t.TypeVar("T_before_websocket", bound=BeforeWebsocketCallable)
T_after_websocket = t.TypeVar("T_after_websocket", bound=AfterWebsocketCallable)
T_teardown = t.TypeVar("T_teardown", bound=TeardownCallable)
T_template_context_processor = t.TypeVar("T_template_context_processor", bound=TemplateContextProcessorCallable)
T_template_filter = t.TypeVar("T_template_filter", bound=TemplateFilterCallable)
T_template_global = t.TypeVar("T_template_global", bound=TemplateGlobalCallable)
T_template_test = t.TypeVar("T_template_test", bound=TemplateTestCallable)
T_shell_context_processor = t.TypeVar("T_shell_context_processor", bound=ShellContextProcessorCallable)
T_url_defaults = t.TypeVar("T_url_defaults", bound=URLDefaultCallable)
T_url_value_preprocessor = t.TypeVar("T_url_value_preprocessor", bound=URLValuePreprocessorCallable)
