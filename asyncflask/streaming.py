"""Keeping a request's contexts for a response which is generated after the view has returned.

The contexts are recorded at the call and pushed while the stream is iterated. A sync stream comes back as a
generator, an async stream as an async generator.

The pieces of an async stream may be asked for by different tasks: a WSGI server's thread waits for each. But
what was pushed in one `contextvars.Context` must be popped in it. So the stream runs in a Context of its own.
"""

from __future__ import annotations

import typing as t
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from functools import update_wrapper

from .globals import _cv_app, _cv_request

if t.TYPE_CHECKING:
    from .ctx import AppContext, RequestContext

P = t.ParamSpec("P")


@t.overload
def stream_with_context(generator_or_function: Iterator[t.AnyStr]) -> Iterator[t.AnyStr]: ...


@t.overload
def stream_with_context(generator_or_function: AsyncIterator[t.AnyStr]) -> AsyncIterator[t.AnyStr]: ...


@t.overload
def stream_with_context(
    generator_or_function: Callable[P, Iterator[t.AnyStr]],
) -> Callable[P, Iterator[t.AnyStr]]: ...


@t.overload
def stream_with_context(
    generator_or_function: Callable[P, AsyncIterator[t.AnyStr]],
) -> Callable[P, AsyncIterator[t.AnyStr]]: ...


def stream_with_context(generator_or_function: t.Any) -> t.Any:
    """Wrap an iterator, or decorate a function which returns one. RuntimeError outside of a request."""
    if isinstance(generator_or_function, Iterable):
        return _iterate(*_record_contexts(), iter(generator_or_function))
    if isinstance(generator_or_function, AsyncIterable):
        return _iterate_async(*_record_contexts(), aiter(generator_or_function))

    def wrapper(*args: t.Any, **kwargs: t.Any) -> t.Any:
        return stream_with_context(generator_or_function(*args, **kwargs))

    return update_wrapper(wrapper, generator_or_function)


def _record_contexts() -> tuple[AppContext, RequestContext]:
    request_context = _cv_request.get(None)
    if request_context is None:
        raise RuntimeError(
            "'stream_with_context' can only be used while a request context is active, as in a view function."
        )
    return _cv_app.get(), request_context


# The app context goes first, or the request context would push a new one of its own.


def _iterate(app_context: AppContext, request_context: RequestContext, items: t.Any) -> Generator[t.Any]:
    with app_context, request_context:
        try:
            yield from items
        finally:
            # An iterator which is no generator, such as a WSGI body, is closed by nobody else.
            if hasattr(items, "close"):
                items.close()


async def _iterate_async(
    app_context: AppContext, request_context: RequestContext, items: t.Any
) -> AsyncGenerator[t.Any]:
    async with app_context, request_context:
        try:
            async for item in items:
                yield item
        finally:
            if hasattr(items, "aclose"):
                await items.aclose()
