"""Blueprints of the contract application: nesting, a language prefix, traced steps, state on the loop."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import defaultdict
from contextlib import suppress
from contextvars import ContextVar

import anyio
from anyio.lowlevel import checkpoint

from asyncflask import (
    Blueprint,
    abort,
    current_app,
    g,
    has_request_context,
    jsonify,
    request,
    stream_with_context,
    url_for,
)

TRACES: dict[str, list[dict]] = defaultdict(list)
STEP: ContextVar[str | None] = ContextVar("STEP", default=None)
LOOP_STATE: dict[str, object] = {}


def token():
    return request.headers.get("X-Token", "-")


# -- nesting: order of hooks, dotted names, whose error handler answers

parent = Blueprint("parent", __name__, url_prefix="/parent")
child = Blueprint("child", __name__, url_prefix="/child")


@parent.before_request
def before_parent():
    g.order = ["parent"]


@child.before_request
async def before_child():
    g.order.append("child")


@parent.after_request
async def after_parent(response):
    response.headers.add("X-After", "parent")
    return response


@child.after_request
def after_child(response):
    response.headers.add("X-After", "child")
    return response


@child.get("/leaf/<int:number>")
def leaf(number):
    return {"order": g.order, "names": request.blueprints, "endpoint": request.endpoint, "number": number}


@child.get("/leaf-async/<int:number>")
async def leaf_async(number):
    return {"order": g.order, "names": request.blueprints, "endpoint": request.endpoint, "number": number}


@child.get("/relative")
def relative():
    return url_for(".leaf", number=1)


@parent.get("/stop")
async def stop():
    abort(418)


@child.get("/stop/<int:code>")
def stop_child(code):
    abort(code, description="child")


@child.get("/narrow")
async def narrow():
    raise Narrow("narrow")


@child.get("/wide")
def wide():
    raise Wide("wide")


class Wide(Exception):
    pass


class Narrow(Wide):
    pass


@parent.errorhandler(Wide)
def handle_in_parent(error):
    return f"parent class {type(error).__name__}", 462


@child.errorhandler(Narrow)
async def handle_in_child(error):
    return f"child class {type(error).__name__}", 463


@parent.errorhandler(403)
async def forbidden_in_parent(error):
    return f"parent 403 {error.description}", 403


@child.errorhandler(404)
def missing_in_child(error):
    return f"child 404 {error.description}", 404


@parent.app_errorhandler(410)
def gone_anywhere(error):
    return f"app-wide 410 {error.description}", 410


# -- a handler for what nobody handled

guarded = Blueprint("guarded", __name__, url_prefix="/guarded")


@guarded.errorhandler(500)
def handle_500(error):
    return {"original": type(error.original_exception).__name__}, 500


@guarded.after_request
def after_guarded(response):
    response.headers["X-After"] = "guarded"
    return response


@guarded.get("/s")
def fail():
    raise ZeroDivisionError


@guarded.get("/a")
async def fail_async():
    raise ZeroDivisionError


# -- a hook that answers instead of the view

gate = Blueprint("gate", __name__, url_prefix="/gate")


@gate.before_request
async def stop_at_gate():
    if "stop" in request.args:
        return {"stopped": request.endpoint}, 401
    return None


@gate.get("/s")
def passed():
    return "passed"


@gate.get("/a")
async def passed_async():
    return "passed"


# -- a language in the URL

lang = Blueprint("lang", __name__, url_prefix="/lang/<code>")


@lang.url_value_preprocessor
def pull_code(endpoint, values):
    g.code = values.pop("code")


@lang.url_defaults
def add_code(endpoint, values):
    values.setdefault("code", g.code)


@lang.get("/here/<name>")
def here(name):
    return {"code": g.code, "name": name, "there": url_for(".there", name=name)}


@lang.get("/there/<name>")
async def there(name):
    return {"code": g.code, "name": name, "here": url_for(".here", name=name, code="xx")}


# -- traced steps: each notes where it runs and which step it can see before it


def loop_id():
    """Which loop this thread runs, asyncio's or trio's; None: none."""
    with suppress(RuntimeError):
        return id(asyncio.get_running_loop())
    with suppress(RuntimeError, KeyError):
        return id(sys.modules["trio"].lowlevel.current_trio_token())
    return None


def note(name):
    """Append one step to the trace of this request's token; the variable chains it to the step before."""
    loop = loop_id()
    seen, in_request = STEP.get(), has_request_context()
    STEP.set(name)
    g.steps = [*g.get("steps", ()), name]
    trace = {"step": name, "thread": threading.get_ident(), "loop": loop, "seen": seen}
    TRACES[token()].append({**trace, "g": g.steps, "path": request.path if in_request else None})


def make_step(name, kind, passed):
    """A hook of one kind that notes itself and answers its argument (after_request) or nothing."""

    def step(*values):
        note(name)
        return values[0] if passed else None

    async def async_step(*values):
        await checkpoint()
        note(name)
        return values[0] if passed else None

    return step if kind == "s" else async_step


def make_traced(kinds):
    """A blueprint whose n-th before, after and teardown hooks are sync or async as letter n of `kinds` is."""
    blueprint = Blueprint(f"traced_{kinds}", __name__, url_prefix=f"/traced/{kinds}")
    for number, kind in enumerate(kinds):
        blueprint.before_request(make_step(f"before{number}", kind, False))
        blueprint.after_request(make_step(f"after{number}", kind, True))
        blueprint.teardown_request(make_step(f"teardown{number}", kind, False))

    @blueprint.get("/s")
    def sync_view():
        note("view")
        return "text"

    @blueprint.get("/a")
    async def async_view():
        await checkpoint()
        note("view")
        return "text"

    @blueprint.get("/s-stream")
    def sync_stream():
        note("view")
        return stream_with_context(trace_while_streaming())

    @blueprint.get("/s-error")
    def sync_error():
        note("view")
        raise LookupError

    @blueprint.get("/a-error")
    async def async_error():
        note("view")
        raise LookupError

    @blueprint.errorhandler(LookupError)
    def handle(error):
        note("error")
        return "handled"

    return blueprint


def trace_while_streaming():
    for number in range(3):
        note(f"chunk{number}")
        yield b"x"


TRACED = ("sss", "aaa", "sas", "asa", "ssa", "aas")
traces = Blueprint("traces", __name__)


@traces.get("/trace/<name>")
def trace_of(name):
    return jsonify(TRACES[name])


# -- the event loop that all requests share

loops = Blueprint("loops", __name__, url_prefix="/loop")


@loops.get("")
async def loop_identity():
    return {"loop": loop_id(), "thread": threading.get_ident()}


@loops.post("/lock")
async def hold_lock():
    """Make a lock, hold it beyond this request and have a task of the loop release it."""
    lock = LOOP_STATE["lock"] = anyio.Semaphore(1)
    await lock.acquire()
    current_app.add_background_task(release_soon, lock)
    return "held"


async def release_soon(lock):
    await anyio.sleep(0.05)
    lock.release()


@loops.get("/lock")
async def take_lock():
    with anyio.fail_after(5):
        async with LOOP_STATE["lock"]:
            return "taken"


@loops.post("/queue")
async def make_queue():
    LOOP_STATE["queue"] = anyio.Event(), []
    return "made"


@loops.get("/queue")
async def take_from_queue():
    arrival, items = LOOP_STATE["queue"]
    with anyio.fail_after(5):
        await arrival.wait()
    return items.pop()


@loops.put("/queue")
async def put_in_queue():
    arrival, items = LOOP_STATE["queue"]
    items.append(request.get_data(as_text=True))
    arrival.set()
    return "put"


parent.register_blueprint(child)
BLUEPRINTS = [parent, guarded, gate, lang, traces, loops, *map(make_traced, TRACED)]
