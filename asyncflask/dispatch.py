"""The request cycle: the one flow of a request, for every server and for tests.

    handle: open the context -> full_dispatch_request -> render the response -> close the context
    full_dispatch_request: preprocess_request -> dispatch_request (the view) -> finalize_request (process_response)

Each stage gets the request's context first. It is an `async def`, or gives an awaitable where it has to wait: often the
view is all that has to be awaited. Stages call each other through `ctx.plan.stages`, so that a subclass's override of
Flask's method of that name is honoured; `Flask`'s own methods drive the stages here.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable

from werkzeug.exceptions import BadRequestKeyError, HTTPException, InternalServerError
from werkzeug.routing import RoutingException
from werkzeug.wrappers import Response as BaseResponse

from . import hooks
from .ctx import Context, RequestContext
from .environ import PRESERVE
from .errors import find_error_handler
from .globals import _cv_app, _cv_request, _no_req_msg
from .plan import AsyncStage, Plan, PlanKey, make_session_step, make_step
from .responding import answers_natively, call_response, make_response
from .sessions import warn_of_weak_key
from .signals import appcontext_tearing_down, request_finished, websocket_finished
from .steps import (
    ANYWHERE,
    DRIVEN,
    LOOP,
    THREAD,
    Host,
    Step,
    calls_to_end,
    drive,
    emit,
    emit_to_end,
    finish_receivers,
    settle,
)

if t.TYPE_CHECKING:
    from .app import Flask
    from .wrappers import Response

T = t.TypeVar("T")


async def handle(ctx: RequestContext, render: Callable[[Response], T]) -> T:
    """Answer one request. `render` is called while the context is still open."""
    app = ctx.app
    error: BaseException | None = None
    response: t.Any = None
    try:
        try:
            if not ctx._open_at_once():
                await ctx._open_waiting()
            response = await ctx.plan.stages.full_dispatch_request(ctx)
            if not answers_natively(type(response)):  # type: ignore[arg-type]  # classes do hash
                response = await _call_response(ctx, response)
            rendered = render(response)
        except Exception as caught:
            error = caught
            if hasattr(response, "close"):  # a hook may have returned anything
                response.close()  # it cannot be rendered
            response = await ctx.plan.stages.handle_exception(ctx, caught)
            response, rendered = await _render_failure(ctx, render, response)
        except BaseException as caught:
            error = caught
            raise
    finally:
        if ctx.request.has_environ:
            _preserve_context(ctx)
        if error is not None and app.should_ignore_error(error):
            error = None
        try:
            if not ctx._close_at_once():
                await ctx._close(error)
        except BaseException:
            if hasattr(response, "close"):
                response.close()  # nobody else will
            raise
        finally:
            error = None  # its traceback holds this frame: no cycle
    return rendered


async def _render_failure(ctx: RequestContext, render: Callable[[Response], T], response: t.Any) -> tuple[Response, T]:
    """A hook may have put into the 500 what could not be sent before: then it is a plain one."""
    try:
        if not answers_natively(type(response)):  # type: ignore[arg-type]  # classes do hash
            response = await _call_response(ctx, response)
        return response, render(response)
    except Exception:
        ctx.app.logger.exception("The response to an error cannot be sent")
        if hasattr(response, "close"):
            response.close()
        response = make_response(ctx.app, InternalServerError())
        return response, render(response)


async def _call_response(ctx: RequestContext, response: t.Any) -> t.Any:
    """A response with a way of its own of being called is called, in the thread; under WSGI the server does it."""
    if ctx.place is DRIVEN:
        return response
    return await ctx.call((THREAD, call_response), response, ctx.request)


def _preserve_context(ctx: RequestContext) -> None:
    """For Werkzeug's debugger and the test client, who want to enter the contexts once more."""
    preserve = ctx.request.environ.get(PRESERVE)
    if preserve is not None:
        preserve(_cv_app.get())
        preserve(ctx)


async def full_dispatch_request(ctx: RequestContext) -> Response:
    app, plan = ctx.app, ctx.plan
    stages = plan.stages
    if not app._got_first_request:
        vars(app)["_got_first_request"] = True  # not by setattr, which would drop all plans
        app._check_served(ctx.request)
        warn_of_weak_key(app)
    try:
        if ctx.started.receivers:
            await emit(ctx, ctx.started, app)
        rv = await stages.preprocess_request(ctx) if plan.preprocesses else None
        if rv is None:
            rv = stages.dispatch_request(ctx)
            if hasattr(rv, "__await__"):
                rv = await rv
    except Exception as error:
        rv = await stages.handle_user_exception(ctx, error)
    response = stages.finalize_request(ctx, rv)
    rv = None  # an HTTPException's traceback holds this frame: no cycle
    answer: Response = await response if hasattr(response, "__await__") else response
    return answer


async def preprocess_request(ctx: RequestContext) -> t.Any:
    request, plan = ctx.request, ctx.plan
    for step in plan.preprocess:
        await ctx.call(step, request.endpoint, request.view_args)
    for step in plan.before:
        rv = await ctx.call(step)
        if rv is not None:
            return rv
    return None


def dispatch_request(ctx: RequestContext) -> t.Any:
    """What the view returns, or an awaitable of it."""
    request, app = ctx.request, ctx.app
    if request.routing_exception is not None:
        app.raise_routing_exception(request)
    rule: t.Any = request.url_rule
    if request.method == "OPTIONS" and getattr(rule, "provide_automatic_options", False):
        return app.make_default_options_response()
    if ctx.plan.preprocesses:
        ctx.renew_plan()  # a hook may have changed the rule or the view
    step = ctx.plan.view
    if step is None:
        raise KeyError(rule.endpoint)
    kind, view = step
    is_here = kind is ctx.place or (kind is THREAD and ctx.place is DRIVEN)
    if not is_here or ctx.unread is not None or ctx.deadline is not None:
        return ctx.call(step, **request.view_args or {})
    rv = view(**request.view_args or {})  # what `call` would come to
    return ctx.complete(rv) if kind is THREAD and hasattr(rv, "__await__") else rv


def finalize_request(ctx: RequestContext, rv: t.Any, from_error_handler: bool = False) -> t.Any:
    """The response, or an awaitable of it where anybody takes part in its making."""
    if ctx.unread is not None:
        ctx.unread = None  # the answer is there: nobody waits for the rest of the body
    if ctx.receiving or (callable(rv) and not isinstance(rv, BaseResponse | HTTPException)):
        return _finalize_waiting(ctx, rv, from_error_handler)
    if not ctx.plan.is_current:
        ctx.renew_plan()
    response = ctx.app.make_response(rv)
    quiet = ctx.cookie == "" and ctx._opened_session is None  # else a session may have to be saved
    if quiet and not (ctx.plan.processes or ctx._after_request_functions or request_finished.receivers):
        return response
    return _process(ctx, response, from_error_handler)


async def _finalize_waiting(ctx: RequestContext, rv: t.Any, from_error_handler: bool) -> Response:
    app = ctx.app
    if ctx.receiving:
        await ctx.call((LOOP, finish_receivers), ctx)
    if not ctx.plan.is_current:
        ctx.renew_plan()
    response: Response
    if callable(rv) and not isinstance(rv, BaseResponse | HTTPException):
        response = await ctx.call((THREAD, app.make_response), rv)  # a WSGI application is somebody's sync code
    else:
        response = app.make_response(rv)
    return await _process(ctx, response, from_error_handler)


async def _process(ctx: RequestContext, response: Response, from_error_handler: bool) -> Response:
    app = ctx.app
    try:
        if ctx.plan.processes or ctx._after_request_functions or _may_have_session(ctx):
            response = await ctx.plan.stages.process_response(ctx, response)
        if request_finished.receivers:
            await emit(ctx, request_finished, app, response=response)
    except Exception:
        if not from_error_handler:
            raise
        app.logger.exception("Request finalizing failed with an error while handling an error")
    return response


async def finalize_websocket(ctx: RequestContext, rv: t.Any, from_error_handler: bool = False) -> Response | None:
    """A websocket's view usually returns None. What else it returns is a refusal, if nothing was accepted before."""
    if ctx.receiving:
        await ctx.call((LOOP, finish_receivers), ctx)
    response = None if rv is None else ctx.app.make_response(rv)
    try:
        response = await ctx.plan.stages.process_response(ctx, response)
        if websocket_finished.receivers:
            await emit(ctx, websocket_finished, ctx.app, response=response)
    except Exception:
        if not from_error_handler:
            raise
        ctx.app.logger.exception("Websocket finalizing failed with an error while handling an error")
    return response


async def process_response(ctx: RequestContext, response: t.Any) -> t.Any:
    app, plan = ctx.app, ctx.plan
    for f in ctx._after_request_functions:
        response = await ctx.call(make_step(app, f), response)
    for step in plan.after:
        response = await ctx.call(step, response)
    if _may_have_session(ctx):
        await _save_session(ctx, response)
    return response


async def _save_session(ctx: RequestContext, response: t.Any) -> None:
    app, session = ctx.app, ctx._session
    if session is None or app.session_interface.is_null_session(session):
        return
    step = make_session_step(app.session_interface.save_session, ctx.plan.save_session)
    if response is not None:
        await ctx.call(step, app, session, response)
        return
    # A websocket's end. A store keeps the session; a cookie does not reach the client any more.
    nowhere = app.response_class()
    await ctx.call(step, app, session, nowhere)
    cookie, name = nowhere.headers.get("Set-Cookie", ""), app.session_interface.get_cookie_name(app)
    is_known = cookie.startswith(f"{name}={ctx.request.cookies.get(name)};")
    if session.modified and cookie and not is_known:
        app.logger.warning("The session was changed in a websocket: its cookie cannot be sent to the client any more.")


def _may_have_session(ctx: RequestContext) -> bool:
    """False for a lazy session that nobody opened and that no cookie brought: there is nothing to save."""
    if ctx._opened_session is not None or ctx.cookie is None:
        return True
    return ctx.cookie != "" and ctx.app.session_interface.get_cookie_name(ctx.app) in ctx.cookie


async def handle_user_exception(ctx: RequestContext, error: Exception) -> t.Any:
    app = ctx.app
    if isinstance(error, BadRequestKeyError) and (app.debug or app.config["TRAP_BAD_REQUEST_ERRORS"]):
        error.show_exception = True
    if isinstance(error, HTTPException) and not app.trap_http_exception(error):
        return await ctx.plan.stages.handle_http_exception(ctx, error)
    handler = find_error_handler(app, error, ctx.request.blueprints)
    if handler is not None:
        return await ctx.call(make_step(app, handler), error)
    if ctx.forgives(error):
        return None
    try:
        raise error
    finally:
        del error  # a frame that holds the error which holds the frame: no cycle


async def handle_http_exception(ctx: RequestContext, error: HTTPException) -> t.Any:
    # Without a code it is no error but a response; routing exceptions are Werkzeug's redirects.
    if error.code is None or isinstance(error, RoutingException):
        return error
    handler = find_error_handler(ctx.app, error, ctx.request.blueprints)
    return error if handler is None else await ctx.call(make_step(ctx.app, handler), error)


async def handle_exception(ctx: RequestContext, error: Exception) -> Response:
    from .hints import add_hints  # only errors need it

    app = ctx.app
    add_hints(app, error)
    if ctx.failed.receivers:
        await emit(ctx, ctx.failed, app, exception=error)
    if propagates(app):
        try:
            raise error
        finally:
            del error
    app.log_exception(t.cast(t.Any, (type(error), error, error.__traceback__)))
    server_error: t.Any = InternalServerError(original_exception=error)
    handler = find_error_handler(app, server_error, ctx.request.blueprints)
    if handler is not None:
        server_error = await ctx.call(make_step(app, handler), server_error)
    response = ctx.plan.stages.finalize_request(ctx, server_error, from_error_handler=True)
    return t.cast("Response", await settle(response))


async def report_late(ctx: RequestContext, error: Exception) -> None:
    """The signal and the log line for an error of a stream, whose request's context is closed already."""
    app = ctx.app
    with ctx.at_hand():
        if ctx.failed.receivers:
            await emit(ctx, ctx.failed, app, exception=error)
        if not propagates(app):
            app.log_exception(t.cast(t.Any, (type(error), error, error.__traceback__)))


def propagates(app: Flask) -> bool:
    """PROPAGATE_EXCEPTIONS; by default in testing and in debug mode."""
    propagate = app.config["PROPAGATE_EXCEPTIONS"]
    return bool(app.testing or app.debug) if propagate is None else bool(propagate)


async def do_teardown_request(ctx: RequestContext, exc: BaseException | None) -> None:
    await _tear_down(ctx, ctx.app, ctx.plan.teardown, exc)
    if ctx.tearing_down.receivers:
        await emit_to_end(ctx, ctx.tearing_down, ctx.app, exc=exc)


async def do_teardown_appcontext(host: t.Any, exc: BaseException | None) -> None:
    app: Flask = host.app
    await _tear_down(host, app, app._plans[None].app_teardown, exc)
    if appcontext_tearing_down.receivers:
        await emit_to_end(host, appcontext_tearing_down, app, exc=exc)


async def _tear_down(host: Host, app: Flask, steps: tuple[Step, ...], exc: BaseException | None) -> None:
    """Every teardown runs. One that fails is logged, and raised at the end where errors propagate."""
    failures: list[BaseException] = []
    call = calls_to_end(host)
    host.unread = host.deadline = None  # nobody will read the one, and the other is not for what cleans up
    for step in steps:
        try:
            await host.go(step[0] if step[0] is not ANYWHERE else host.place)
        except BaseException as error:  # a cancellation that came with the move: the step still runs
            failures.insert(0, error)
        try:
            await call(step, exc)
        except Exception as error:
            app.logger.exception("Error in the teardown function %r", step[1])
            failures.append(error)
        except BaseException as error:  # a cancellation: the other teardowns run, then it goes on
            failures.insert(0, error)
    if failures and (propagates(app) or not isinstance(failures[0], Exception)):
        try:
            raise failures[0]
        finally:
            failures.clear()


STAGES: dict[str, AsyncStage] = {
    stage.__name__: stage
    for stage in (
        full_dispatch_request,
        preprocess_request,
        dispatch_request,
        finalize_request,
        process_response,
        handle_user_exception,
        handle_http_exception,
        handle_exception,
        do_teardown_request,
        do_teardown_appcontext,
    )
}


WEBSOCKET_STAGES: dict[str, AsyncStage] = {**STAGES, "finalize_request": finalize_websocket}
_STAGES_OF = {hooks.HTTP: STAGES, hooks.WEBSOCKET: WEBSOCKET_STAGES}


def make_plan(app: Flask, key: PlanKey) -> Plan:
    kinds, endpoint = key if isinstance(key, tuple) else (hooks.HTTP, key)
    return Plan(app, endpoint, _STAGES_OF[kinds], kinds)


def run_stage(app: Flask, name: str, *args: t.Any, **kwargs: t.Any) -> t.Any:
    """A stage's sync form, for the current context: what `Flask`'s methods of the request cycle do."""
    ctx: Context | None = _cv_request.get(None)
    if ctx is None and name == "do_teardown_appcontext":
        ctx = _cv_app.get(None) or app.app_context()
    if ctx is None:
        raise RuntimeError(_no_req_msg)
    with ctx.staying(DRIVEN):
        return drive(settle(STAGES[name](ctx, *args, **kwargs)))
