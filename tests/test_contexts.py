"""Contexts: pushing and popping, nesting, threads and tasks, `g`, streams, preserved contexts."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest
from faces import FACES, Web, as_flask, both_faces, fails, in_all_styles

import asyncflask
from asyncflask.globals import _cv_app, _cv_request, app_ctx, request_ctx


def recording_app(web: Web, log, name="app"):
    app = web.app(name)
    app.secret_key = "key"
    app.teardown_request(web.fn(lambda error: log.append((name, "request", repr(error)))))
    app.teardown_appcontext(web.fn(lambda error: log.append((name, "context", repr(error)))))
    app.add_url_rule("/<x>", "x", web.fn(lambda x: x))
    return app


def state(web: Web):
    api = web.api
    return (
        api.has_app_context() and api.current_app.import_name,
        api.has_request_context() and api.request.path,
        bool(api.current_app), bool(api.request), "x" in api.g if api.g else None,
    )  # fmt: skip


# Push, pop, with


@in_all_styles
def test_push_and_pop(web: Web):
    log = []
    app = recording_app(web, log)
    for make in (app.app_context, lambda: app.test_request_context("/x")):
        ctx = make()
        log.append(state(web))
        ctx.push()
        log.append(state(web))
        ctx.pop()
        log.append(state(web))
        with make():
            log.append(state(web))
            with make():
                log.append(state(web))
            log.append(state(web))
        ctx = make()
        ctx.push()
        ctx.push()
        log.append("twice")
        ctx.pop()
        log.append("once")
        ctx.pop()
        log.append("done")
        with ctx, ctx:
            log.append("with twice")
    return log, state(web)


@in_all_styles
def test_nesting_of_two_applications(web: Web):
    log = []
    one, two = recording_app(web, log, "one"), recording_app(web, log, "two")
    with one.app_context():
        web.api.g.x = 1
        log.append(state(web))
        with two.test_request_context("/two"):
            log.append(state(web))
            with one.test_request_context("/one"):
                log.append(state(web))
                with two.app_context():
                    log.append(state(web))
            log.append(state(web))
        with one.test_request_context("/again"):
            log.append((state(web), web.api.g.x))
        log.append(state(web))
    return log


@in_all_styles
def test_the_error_that_a_teardown_gets(web: Web):
    log = []
    app = recording_app(web, log)
    for make in (app.app_context, lambda: app.test_request_context("/x")):
        try:
            with make():
                raise ValueError("in with")
        except ValueError:
            pass
        ctx = make()
        ctx.push()
        ctx.pop(KeyError("given"))
        ctx = make()
        ctx.push()
        try:
            raise IndexError("being handled")
        except IndexError:
            ctx.pop()
        ctx = make()
        ctx.push()
        ctx.pop(None)
        ctx = make()
        ctx.push()
        try:
            raise IndexError("being handled")
        except IndexError:
            ctx.pop(None)
    return log


@as_flask
def test_wrong_pops(web: Web):
    app = recording_app(web, [])
    seen = []
    for make in (app.app_context, lambda: app.test_request_context("/x")):
        seen.append(fails(make().pop))
        outer, inner = make(), make()
        outer.push()
        seen.append(fails(inner.pop))
        inner.push()
        seen.append(fails(outer.pop))
        seen.append((web.api.has_app_context(), web.api.has_request_context()))
        for var in (web.api.globals._cv_app, web.api.globals._cv_request):
            while var.get(None) is not None:
                before = var.get()
                fails(before.pop)
                if var.get(None) is before:
                    var.set(None)
    return seen


@in_all_styles
def test_contexts_are_pushed_in_a_request(web: Web):
    log = []
    app = recording_app(web, log)
    other = recording_app(web, log, "other")

    def view():
        seen = [str(state(web))]
        with app.app_context():
            seen.append(str(state(web)))
        with app.test_request_context("/inner"):
            seen.append(str(state(web)))
        with other.test_request_context("/other"):
            seen.append(str(state(web)))
            seen.append(other.test_client().get("/through-the-client").get_data(as_text=True))
        seen.append(str(state(web)))
        return seen

    app.add_url_rule("/", "index", web.api.Flask.ensure_sync(app, view))
    return web.client(app).get("/").json, log


@in_all_styles
def test_an_app_context_around_the_client(web: Web):
    log = []
    app = recording_app(web, log)
    app.add_url_rule("/g/<x>", "g", web.fn(lambda x: web.api.g.setdefault("x", x)))
    client = web.client(app)
    if not hasattr(client, "client"):
        return _around_the_wsgi_client(web, app, log)  # over ASGI a request never shares a context
    return _around_the_wsgi_client(web, app, log)


def _around_the_wsgi_client(web, app, log):
    client = app.test_client()
    with app.app_context():
        web.api.g.x = "outer"
        seen = [client.get("/g/one").get_data(as_text=True), client.get("/g/two").get_data(as_text=True), web.api.g.x]
        log.append("--")
    return seen, log


# Errors outside of contexts


@as_flask
def test_errors_outside_of_contexts(web: Web):
    api = web.api

    def probe():
        return [
            fails(lambda: api.current_app.name),
            fails(lambda: api.g.x),
            fails(lambda: setattr(api.g, "x", 1)),
            fails(lambda: "x" in api.g),
            fails(lambda: api.request.path),
            fails(lambda: api.session["x"]),
            fails(lambda: api.globals.app_ctx.app),
            fails(lambda: api.globals.request_ctx.request),
            fails(lambda: api.after_this_request(str)),
            fails(lambda: api.copy_current_request_context(str)),
            fails(lambda: api.stream_with_context(iter([]))),
            fails(lambda: api.url_for("x")),
            fails(lambda: api.flash("x")),
            fails(lambda: api.get_flashed_messages()),
            fails(lambda: api.render_template_string("x")),
            fails(lambda: api.make_response("x")),
            fails(lambda: api.jsonify(1)),
            fails(lambda: api.current_app._get_current_object()),
            bool(api.request), bool(api.current_app), bool(api.g), bool(api.session),
            repr(api.g), repr(api.request), repr(api.current_app),
            api.has_app_context(), api.has_request_context(),
        ]  # fmt: skip

    seen = [probe()]
    with web.app().app_context():
        seen.append(probe())
    return seen


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda: asyncflask.current_app.name, "application context"),
        (lambda: asyncflask.g.x, "application context"),
        (lambda: asyncflask.request.path, "request context"),
        (lambda: asyncflask.session["x"], "request context"),
        (lambda: request_ctx.request, "request context"),
        (lambda: app_ctx.g, "application context"),
        (lambda: asyncflask.after_this_request(str), "'after_this_request'"),
        (lambda: asyncflask.copy_current_request_context(str), "'copy_current_request_context'"),
        (lambda: asyncflask.stream_with_context(iter(())), "'stream_with_context'"),
    ],
)
def test_errors_say_what_is_missing(use, words):
    with pytest.raises(RuntimeError, match=words):
        use()


# g


@as_flask
def test_g(web: Web):
    app = web.app()
    with app.app_context():
        g = web.api.g
        g.a = 1
        g.b = 2
        seen = [
            g.a,
            "a" in g,
            "c" in g,
            sorted(g),
            g.get("a"),
            g.get("c"),
            g.get("c", 3),
            g.pop("a"),
            g.pop("a", "gone"),
        ]
        seen += [fails(g.pop, "a"), fails(lambda: g.a), g.setdefault("d", []), g.setdefault("d", 1), g.setdefault("e")]
        del g.b
        seen += [fails(delattr, g, "b"), sorted(g), repr(g), hasattr(g, "nope"), vars(g._get_current_object())]
        with app.app_context():
            seen.append("d" in web.api.g)
        seen.append("d" in web.api.g)
    return seen


@as_flask
def test_own_class_of_g(web: Web):
    class Own(web.api.ctx._AppCtxGlobals):
        def __init__(self):
            self.made = "made"

    class Slim:
        pass

    app = web.app()
    app.app_ctx_globals_class = Own
    app.add_url_rule("/", "index", lambda: web.api.g.made)
    seen = [web.client(app).get("/").text]
    app.app_ctx_globals_class = Slim
    with app.app_context():
        web.api.g.x = 1
        seen.append(type(web.api.g._get_current_object()).__name__)
    return seen


@in_all_styles
def test_g_lives_for_one_request(web: Web):
    app = web.app()
    app.before_request(web.fn(lambda: setattr(web.api.g, "list", [*web.api.g.get("list", ()), "before"])))
    app.add_url_rule("/", "index", web.fn(lambda: web.api.g.list.append("view") or web.api.g.list))
    app.teardown_request(web.fn(lambda error: web.api.g.list.append("teardown")))
    seen = []
    app.teardown_appcontext(web.fn(lambda error: seen.append(list(web.api.g.get("list", ())))))
    client = web.client(app)
    return client.get("/").json, client.get("/").json, seen


# Identity, attributes, weak references


@in_all_styles
def test_contexts_take_attributes_and_keep_their_identity(web: Web):
    api = web.api
    app = web.app()
    seen = []
    ids = []

    def look(*args):
        ctx, outer = api.globals.request_ctx._get_current_object(), api.globals.app_ctx._get_current_object()
        ids.append((id(ctx), id(outer), id(api.request._get_current_object()), id(api.g._get_current_object())))
        ctx.own = outer.own = api.request.own = getattr(ctx, "own", 0) + 1
        seen.append((ctx.own, outer.own, api.request.own, weakref.ref(ctx)() is ctx, weakref.ref(outer)() is outer))
        seen.append(
            (outer.app is app, ctx.app is app, outer.g is api.g._get_current_object(), ctx.request is api.request)
        )
        return args[0] if args and isinstance(args[0], api.Response) else None

    app.before_request(web.fn(look))
    app.add_url_rule("/", "index", web.fn(lambda: look() or "index"))
    app.after_request(web.fn(look))
    app.teardown_request(web.fn(look))
    app.teardown_appcontext(web.fn(lambda error: seen.append(api.globals.app_ctx.own)))
    web.client(app).get("/")
    return seen, len(set(ids))


@as_flask
def test_attributes_of_contexts(web: Web):
    app = web.app()
    app.secret_key = "key"
    app.add_url_rule("/<x>", "x", lambda x: x)
    with app.test_request_context("/1?a=b", method="GET") as ctx:
        copy = ctx.copy()
        seen = [
            ctx.app is app, ctx.request.path, ctx.session == {}, ctx.flashes, ctx.url_adapter is not None, repr(ctx),
            ctx.request.view_args, ctx.request.endpoint, copy.request is ctx.request, copy is ctx,
            type(copy) is type(ctx),
            ctx.session.accessed, web.api.globals.app_ctx.url_adapter, hasattr(web.api.globals.app_ctx, "session"),
        ]  # fmt: skip
        ctx.session["x"] = 1
        with copy:
            seen += [
                web.api.session["x"],
                web.api.request.view_args,
                web.api.globals.request_ctx._get_current_object() is copy,
            ]
    fresh = app.test_request_context("/1")
    return [*seen, fails(lambda: fresh.session), fresh.request.endpoint, fresh.request.url_rule]


@both_faces
@pytest.mark.parametrize("style", ["sync", "async", "mixed"])
def test_a_request_leaves_nothing_behind(face, style, tmp_path):
    web = Web(asyncflask, FACES[face], style, tmp_path)
    app = asyncflask.Flask("app")
    app.logger.disabled = True
    gone = []

    def note():
        gone.extend(map(weakref.ref, (request_ctx._get_current_object(), app_ctx._get_current_object(),
                                      asyncflask.request._get_current_object())))  # fmt: skip

    app.before_request(web.fn(note))
    app.add_url_rule("/", "index", web.fn(lambda: "index"))
    app.add_url_rule("/folder/", "folder", web.fn(lambda: "folder"))
    app.add_url_rule("/fail", "fail", web.fn(lambda: 1 / 0))
    app.add_url_rule("/abort", "abort", web.fn(lambda: asyncflask.abort(403)))
    app.add_url_rule("/environ", "environ", web.fn(lambda: asyncflask.request.environ["PATH_INFO"]))
    client = web.client(app)
    client.get("/")
    gone.clear()
    gc.collect()
    gc.disable()
    try:
        for path in ("/", "/none", "/folder", "/fail", "/abort", "/environ"):
            client.get(path)
            alive = [ref for ref in gone if ref() is not None]
            assert gone and not alive, (path, alive)
            gone.clear()
    finally:
        gc.enable()


# Threads and tasks


@in_all_styles
def test_copy_current_request_context_in_threads(web: Web):
    api = web.api
    app = web.app()
    app.secret_key = "key"
    log = []

    def index():
        api.session["x"] = "session"
        api.g.x = "outer g"
        api.request.own = "own"

        def work(argument, key):
            log.append(
                (argument, key, api.request.path, api.session["x"], api.request.own, "x" in api.g, api.current_app.name)
            )
            return "worked"

        copied = api.copy_current_request_context(work)
        log.append(copied.__name__)
        results = []
        thread = threading.Thread(target=lambda: results.append(copied(1, key=2)))
        thread.start()
        thread.join()
        outside = threading.Thread(target=lambda: log.append(api.has_request_context()))
        outside.start()
        outside.join()
        return [results, copied(3, key=4), api.g.x]

    app.add_url_rule("/", "index", web.fn(index))
    app.teardown_request(lambda error: log.append("teardown"))
    return web.client(app).get("/").text, log


@pytest.mark.parametrize("face", ["wsgi", "asgi"])
def test_one_copied_function_runs_in_several_threads_at_once(face):
    app = asyncflask.Flask("app")
    together = threading.Barrier(4, timeout=10)
    torn_down = []
    app.teardown_request(torn_down.append)

    @app.route("/<word>")
    def index(word):
        answers, errors = [], []

        @asyncflask.copy_current_request_context
        def work(number):
            asyncflask.g.number = number
            together.wait()
            answers.append((asyncflask.request.view_args["word"], number == asyncflask.g.number))

        def run(number):
            try:
                work(number)
            except Exception as error:
                errors.append(repr(error))

        threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {"answers": answers, "errors": errors}

    assert app.test_client(face=face).get("/here").json == {"answers": [["here", True]] * 4, "errors": []}
    assert torn_down == [None] * 5


@both_faces
def test_copy_current_request_context_in_tasks(face):
    app = asyncflask.Flask("app")
    log = []

    @app.teardown_request
    async def teardown(error):
        log.append(f"teardown {error!r}")

    @app.route("/<name>")
    async def index(name):
        @asyncflask.copy_current_request_context
        async def work(number):
            before = asyncflask.request.path
            await asyncio.sleep(0.001 * number)
            asyncflask.g.number = number
            await asyncio.sleep(0)
            return f"{before} {asyncflask.request.path} {asyncflask.g.number}"

        @asyncflask.copy_current_request_context
        async def fail():
            raise ValueError("in the task")

        asyncflask.g.number = "outer"
        assert asyncio.iscoroutinefunction(work)
        one = await asyncio.create_task(work(1))
        two = await work(2)
        with pytest.raises(ValueError, match="in the task"):
            await asyncio.create_task(fail())
        return [one, two, asyncflask.g.number]

    # As in Flask, a task of the request shares its application context, and so `g`.
    assert FACES[face](app).get("/x").json == ["/x /x 1", "/x /x 2", 2]
    assert log == ["teardown None", "teardown None", "teardown ValueError('in the task')", "teardown None"]
    assert not asyncflask.has_request_context()


@both_faces
def test_a_copied_function_serves_concurrent_tasks(face):
    """Each call enters the copied context in its own task."""
    app = asyncflask.Flask("app")

    @app.route("/<name>")
    async def index(name):
        @asyncflask.copy_current_request_context
        async def work(number):
            await asyncio.sleep(0.002 * (number % 3))
            return f"{asyncflask.request.path} {number}"

        return await asyncio.gather(*map(work, range(6)))

    assert FACES[face](app).get("/x").json == [f"/x {n}" for n in range(6)]
    assert not asyncflask.has_request_context()


@both_faces
def test_a_copied_sync_function_in_an_async_view(face):
    app = asyncflask.Flask("app")

    @app.route("/<name>")
    async def index(name):
        @asyncflask.copy_current_request_context
        def work():
            return f"{asyncflask.request.path} {threading.current_thread() is threading.main_thread()}"

        return await asyncio.to_thread(work)

    assert FACES[face](app).get("/x").text == "/x False"


@both_faces
def test_nested_tasks_and_threads_see_the_request(face):
    app = asyncflask.Flask("app")

    def in_thread():
        return f"{asyncflask.request.path} {asyncflask.g.x} {asyncflask.current_app.name}"

    async def in_task():
        await asyncio.sleep(0)
        return in_thread(), await asyncio.to_thread(in_thread), await asyncio.create_task(leaf())

    async def leaf():
        return asyncflask.request.endpoint

    @app.before_request
    def before():
        asyncflask.g.x = asyncflask.request.view_args["name"]

    @app.route("/<name>")
    async def index(name):
        return list(await asyncio.create_task(in_task()))

    @app.route("/sync/<name>")
    def sync(name):
        return list(app.ensure_sync(in_task)())

    client = FACES[face](app)
    assert client.get("/a").json == ["/a a app", "/a a app", "index"]
    assert client.get("/sync/b").json == ["/sync/b b app", "/sync/b b app", "sync"]


def test_requests_at_once_keep_their_own_state():
    """Sync, async and mixed requests on one loop, with nested tasks: nothing crosses."""
    from faces import ask_asgi, make_scope

    app = asyncflask.Flask("app")
    app.secret_key = "key"

    @app.before_request
    def before():
        asyncflask.g.name = asyncflask.request.view_args["name"]
        asyncflask.session["name"] = asyncflask.g.name

    @app.route("/async/<name>")
    async def async_view(name):
        await asyncio.sleep(0.001)
        inner = await asyncio.create_task(nested())
        return f"{asyncflask.g.name} {asyncflask.session['name']} {asyncflask.request.view_args['name']} {inner}"

    async def nested():
        await asyncio.sleep(0.001)
        return asyncflask.g.name

    @app.route("/sync/<name>")
    def sync_view(name):
        threading.Event().wait(0.001)
        seen = f"{asyncflask.g.name} {asyncflask.session['name']} {asyncflask.request.view_args['name']}"
        return f"{seen} {asyncflask.g.name}"

    @app.after_request
    async def after(response):
        await asyncio.sleep(0)
        response.headers["X-Name"] = asyncflask.g.name
        return response

    async def main():
        paths = [f"/{kind}/{number}" for number in range(60) for kind in ("async", "sync")]
        answers = await asyncio.gather(*(ask_asgi(app, make_scope(app, {}, path)) for path in paths))
        for path, answer in zip(paths, answers, strict=True):
            name = path.rpartition("/")[2]
            assert answer.text == " ".join([name] * 4) and answer.header("X-Name") == name

    asyncio.run(main())


# async with


def test_async_with():
    app = asyncflask.Flask("app")
    log = []

    @app.teardown_request
    def teardown(error):
        log.append(f"request {error!r} {threading.current_thread() is threading.main_thread()}")

    @app.teardown_appcontext
    async def teardown_context(error):
        await asyncio.sleep(0)
        log.append(f"context {error!r}")

    async def main():
        async with app.app_context() as ctx:
            assert asyncflask.current_app._get_current_object() is app and ctx is app_ctx._get_current_object()
            asyncflask.g.x = 1
            async with app.test_request_context("/x") as inner:
                assert asyncflask.request.path == "/x" and asyncflask.g.x == 1
                assert inner is request_ctx._get_current_object()
                assert await asyncio.create_task(path()) == "/x"
            log.append("--")
            assert not asyncflask.has_request_context() and asyncflask.has_app_context()
        with pytest.raises(ValueError, match="with"):
            async with app.test_request_context("/x"):
                raise ValueError("with")
        assert not asyncflask.has_app_context()

    async def path():
        return asyncflask.request.path

    asyncio.run(main())
    assert log == [
        "request None False",
        "--",
        "context None",
        "request ValueError('with') False",
        "context ValueError('with')",
    ]


def test_sync_with_on_a_loop():
    """Where no async teardown runs, `with` works on a loop too; where one does, the error says what to write."""
    app = asyncflask.Flask("app")
    log = []
    app.teardown_appcontext(lambda error: log.append("sync"))

    async def plain():
        with app.app_context(), app.test_request_context("/x"):
            return asyncflask.request.path

    assert asyncio.run(plain()) == "/x" and log == ["sync"]

    @app.teardown_appcontext
    async def teardown(error):
        log.append("async")

    async def refused():
        with app.app_context():
            pass

    app.testing = True
    with pytest.raises(RuntimeError, match="async with"):
        asyncio.run(refused())
    assert log == ["sync", "sync"]


def test_async_with_an_async_session():
    from asyncflask.sessions import SecureCookieSession, SessionInterface

    class Interface(SessionInterface):
        async def open_session(self, app, request):
            await asyncio.sleep(0)
            return SecureCookieSession({"x": request.path})

        async def save_session(self, app, session, response):
            raise AssertionError("No response, no saving.")

    app = asyncflask.Flask("app")
    app.session_interface = Interface()

    async def main():
        async with app.test_request_context("/x"):
            return asyncflask.session["x"]

    assert asyncio.run(main()) == "/x"
    with app.test_request_context("/y"):
        assert asyncflask.session["x"] == "/y"


# Streams


@as_flask
def test_stream_with_context(web: Web):
    api = web.api
    app = web.app()
    app.secret_key = "key"
    log = []
    app.teardown_request(lambda error: log.append("teardown"))
    app.teardown_appcontext(lambda error: log.append("context"))

    def pieces(name):
        try:
            for number in range(3):
                log.append(number)
                yield f"{name} {api.request.path} {api.g.x} {api.session['x']} {number};"
        finally:
            log.append(f"closed {api.request.path}")

    def setup():
        api.g.x = "g"
        api.session["x"] = "session"

    app.before_request(setup)
    app.add_url_rule("/called", "called", lambda: api.stream_with_context(pieces("called")))
    app.add_url_rule("/decorated", "decorated", lambda: api.Response(api.stream_with_context(pieces)("decorated")))
    app.add_url_rule("/list", "list", lambda: api.Response(api.stream_with_context(["a", "b"])))
    app.add_url_rule("/plain", "plain", lambda: api.Response(iter(["a", "b"])))
    client = web.client(app)
    answers = [client.get(path) for path in ("/called", "/decorated", "/list", "/plain")]
    return [(a.status, a.text) for a in answers], log, api.has_request_context()


@both_faces
def test_async_streams_with_context(face):
    app = asyncflask.Flask("app")
    log = []

    @app.teardown_request
    async def teardown(error):
        log.append("teardown")

    @app.route("/<name>")
    async def index(name):
        @asyncflask.stream_with_context
        async def pieces():
            asyncflask.g.count = 0
            for _ in range(3):
                await asyncio.sleep(0)
                asyncflask.g.count += 1
                yield f"{asyncflask.request.path} {asyncflask.g.count};"

        return pieces()

    assert FACES[face](app).get("/x").text == "/x 1;/x 2;/x 3;"
    assert log == ["teardown", "teardown"]  # as in Flask: at the end of the request, and of the stream


# Preserved contexts of the test client


@in_all_styles
def test_the_client_preserves_contexts(web: Web):
    api = web.api
    app = web.app()
    app.secret_key = "key"
    log = []
    app.teardown_request(web.fn(lambda error: log.append("teardown")))
    app.add_url_rule("/<x>", "x", web.fn(lambda x: setattr(api.g, "x", x) or api.session.update(x=x) or x))
    app.add_url_rule("/to/<x>", "to", web.fn(lambda x: api.redirect(f"/{x}")))
    with app.test_client() as client:
        client.get("/one")
        log.append((api.request.path, api.g.x, api.session["x"], api.current_app.name))
        client.get("/two")
        log.append((api.request.path, api.g.x, api.session["x"]))
        client.get("/to/three", follow_redirects=True)
        log.append((api.request.path, api.g.x))
        with client.session_transaction() as session:
            session["more"] = 1
        client.get("/four")
        log.append((api.request.path, sorted(api.session)))
    log.append((api.has_request_context(), api.has_app_context()))
    client = app.test_client()
    client.get("/five")
    return [*log, api.has_request_context()]


def test_no_context_is_left_over():
    assert _cv_app.get(None) is None and _cv_request.get(None) is None
