"""Views as classes, sync and async."""

from __future__ import annotations

import inspect
import threading
import typing as t
from collections.abc import Callable
from functools import wraps

import pytest

from asyncflask import Flask, g, nonblocking, request
from asyncflask.views import MethodView, View


@pytest.fixture
def app() -> Flask:
    return Flask(__name__)


class SyncHello(View):
    """A greeting."""

    methods = ("GET", "POST")

    def __init__(self, greeting: str = "Hello") -> None:
        self.greeting = greeting

    def dispatch_request(self, name: str) -> str:
        return f"{self.greeting} {name} {request.method}"


class AsyncHello(SyncHello):
    async def dispatch_request(self, name: str) -> str:  # type: ignore[override]
        return super().dispatch_request(name)


class SyncCounter(MethodView):
    def get(self, **values: t.Any) -> str:
        return f"GET {values}"

    def post(self) -> str:
        return "POST"


class AsyncCounter(MethodView):
    async def get(self, **values: t.Any) -> str:
        return f"GET {values}"

    async def post(self) -> str:
        return "POST"


class MixedCounter(MethodView):
    async def get(self, **values: t.Any) -> str:
        return f"GET {values}"

    def post(self) -> str:
        return "POST"


hellos = pytest.mark.parametrize("hello", [SyncHello, AsyncHello])
counters = pytest.mark.parametrize("counter", [SyncCounter, AsyncCounter, MixedCounter])


@hellos
def test_a_view_gets_the_urls_values_and_its_own_arguments(app: Flask, hello: type[SyncHello]) -> None:
    app.add_url_rule("/a/<name>", view_func=hello.as_view("a"))
    app.add_url_rule("/b/<name>", view_func=hello.as_view("b", "Hi"))
    app.add_url_rule("/c/<name>", view_func=hello.as_view("c", greeting="Hey"))
    client = app.test_client()
    assert client.get("/a/x").text == "Hello x GET"
    assert client.post("/b/x").text == "Hi x POST"
    assert client.get("/c/x").text == "Hey x GET"
    assert client.put("/a/x").status_code == 405


@hellos
def test_the_function_describes_its_class(hello: type[SyncHello]) -> None:
    view: t.Any = hello.as_view("name")
    assert view.view_class is hello
    assert (view.__name__, view.__doc__, view.__module__) == ("name", hello.__doc__, __name__)
    assert view.methods == ("GET", "POST")
    assert view.provide_automatic_options is None


@pytest.mark.parametrize(
    ("view_class", "expected"),
    [
        (SyncHello, False),
        (AsyncHello, True),
        (SyncCounter, False),
        (AsyncCounter, True),
        (MixedCounter, True),
    ],
)
@pytest.mark.parametrize("every_request", [False, True])
def test_async_classes_give_coroutine_functions(view_class: type[View], expected: bool, every_request: bool) -> None:
    class Own(view_class):  # type: ignore[misc, valid-type]
        init_every_request = every_request

    assert inspect.iscoroutinefunction(Own.as_view("own")) is expected


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("every_request", [False, True])
def test_instances(app: Flask, every_request: bool, asynchronous: bool) -> None:
    class Sync(View):
        init_every_request = every_request
        made = 0

        def __init__(self) -> None:
            type(self).made += 1

        def dispatch_request(self) -> str:
            return ""

    class Async(Sync):
        async def dispatch_request(self) -> str:  # type: ignore[override]
            return ""

    view_class = Async if asynchronous else Sync
    app.add_url_rule("/", view_func=view_class.as_view("index"))
    client = app.test_client()
    for _ in range(3):
        client.get("/")
    assert view_class.made == (3 if every_request else 1)


def test_the_class_of_a_view_may_be_replaced(app: Flask) -> None:
    view: t.Any = SyncHello.as_view("hello")
    app.add_url_rule("/<name>", view_func=view)

    class Other(SyncHello):
        def dispatch_request(self, name: str) -> str:
            return "other"

    view.view_class = Other
    assert app.test_client().get("/x").text == "other"


@hellos
def test_decorators_are_applied_in_order(app: Flask, hello: type[SyncHello]) -> None:
    def add(mark: str) -> Callable[[Callable[..., t.Any]], Callable[..., t.Any]]:
        def decorate(f: Callable[..., t.Any]) -> Callable[..., t.Any]:
            assert (f.__name__, f.__module__) == ("hello", __name__)

            @wraps(f)
            def decorated(**kwargs: t.Any) -> str:
                return t.cast(str, app.ensure_sync(f)(**kwargs)) + mark

            return decorated

        return decorate

    class Own(hello):  # type: ignore[misc, valid-type]
        decorators: t.ClassVar[list[Callable[..., t.Any]]] = [add("1"), add("2")]

    view: t.Any = Own.as_view("hello")
    assert view.view_class is Own
    app.add_url_rule("/<name>", view_func=view)
    assert app.test_client().get("/x").text == "Hello x GET12"


def test_the_base_dispatches_nothing(app: Flask) -> None:
    with pytest.raises(NotImplementedError):
        View().dispatch_request()


class TestMethodView:
    @counters
    def test_methods(self, app: Flask, counter: type[MethodView]) -> None:
        assert counter.methods == {"GET", "POST"}
        app.add_url_rule("/", view_func=counter.as_view("counter"))
        app.add_url_rule("/<int:n>", view_func=counter.as_view("one"))
        client = app.test_client()
        assert client.get("/").text == "GET {}"
        assert client.get("/3").text == "GET {'n': 3}"
        assert client.post("/").text == "POST"
        assert client.delete("/").status_code == 405
        assert sorted(client.options("/").allow) == ["GET", "HEAD", "OPTIONS", "POST"]

    @counters
    def test_head_is_answered_by_get(self, app: Flask, counter: type[MethodView]) -> None:
        app.add_url_rule("/", view_func=counter.as_view("counter"))
        response = app.test_client().head("/")
        assert (response.status_code, response.data) == (200, b"")
        assert response.content_length == len("GET {}")

    def test_head_of_its_own(self, app: Flask) -> None:
        class Own(SyncCounter):
            def head(self) -> tuple[str, dict[str, str]]:
                return "", {"X-Method": "HEAD"}

        app.add_url_rule("/", view_func=Own.as_view("own"))
        assert app.test_client().head("/").headers["X-Method"] == "HEAD"

    def test_methods_are_inherited(self) -> None:
        class More(SyncCounter):
            def propfind(self) -> str:
                return ""

            def delete(self) -> str:
                return ""

        class Explicit(SyncCounter):
            methods = ("PROPFIND",)

        class Both(More, Explicit):
            pass

        class Nothing(MethodView):
            pass

        assert More.methods == {"GET", "POST", "DELETE"}
        assert set(Explicit.methods) == {"PROPFIND"}
        assert set(Both.methods) == {"GET", "POST", "DELETE", "PROPFIND"}
        assert Nothing.methods is None

    @counters
    def test_an_unimplemented_method(self, app: Flask, counter: type[MethodView]) -> None:
        app.testing = True
        app.add_url_rule("/", view_func=counter.as_view("counter"), methods=["PUT"])
        with pytest.raises(AssertionError, match="Unimplemented method 'PUT'"):
            app.test_client().put("/")

    def test_private_methods_are_no_http_methods(self, app: Flask) -> None:
        class Own(SyncCounter):
            def _helper(self) -> str:
                return "secret"

        app.add_url_rule("/", view_func=Own.as_view("own"))
        assert app.test_client().open("/", method="_HELPER").status_code == 405

    def test_sync_methods_of_a_mixed_class_stay_off_the_loop(self, app: Flask) -> None:
        class Own(MethodView):
            async def get(self) -> str:
                return str(threading.get_ident())

            def post(self) -> str:
                with pytest.raises(RuntimeError):
                    inspect_loop()
                return str(threading.get_ident())

        app.add_url_rule("/", view_func=Own.as_view("own"))
        client = app.test_client()
        assert client.get("/").text != client.post("/").text

    def test_a_context_is_shared_by_mixed_methods(self, app: Flask) -> None:
        @app.before_request
        def before() -> None:
            g.seen = ["before"]

        @app.after_request
        def after(response: t.Any) -> t.Any:
            response.headers["Seen"] = ",".join(g.seen)
            return response

        class Own(MethodView):
            async def get(self) -> str:
                g.seen.append("async")
                return ""

            def post(self) -> str:
                g.seen.append("sync")
                return ""

        app.add_url_rule("/", view_func=Own.as_view("own"))
        client = app.test_client()
        assert client.get("/").headers["Seen"] == "before,async"
        assert client.post("/").headers["Seen"] == "before,sync"

    def test_own_dispatch_decides(self, app: Flask) -> None:
        class Sync(AsyncCounter):
            def dispatch_request(self, **kwargs: t.Any) -> t.Any:
                return ["own", super().dispatch_request(**kwargs)]

        class Async(SyncCounter):
            async def dispatch_request(self, **kwargs: t.Any) -> t.Any:
                return ["own", super().dispatch_request(**kwargs)]

        for name, view_class in {"sync": Sync, "async": Async}.items():
            view = view_class.as_view(name)
            assert inspect.iscoroutinefunction(view) is (name == "async")
            app.add_url_rule(f"/{name}", view_func=view)
        client = app.test_client()
        assert [client.get(path).json for path in ("/sync", "/async")] == [["own", "GET {}"]] * 2

    def test_a_sync_wrapper_may_return_a_coroutine(self, app: Flask) -> None:
        def wrapper(f: Callable[..., t.Any]) -> Callable[..., t.Any]:
            def call(*args: t.Any, **kwargs: t.Any) -> t.Any:
                return f(*args, **kwargs)

            return call

        class Own(AsyncCounter):
            post = wrapper(AsyncCounter.post)

        app.add_url_rule("/", view_func=Own.as_view("own"))
        assert app.test_client().post("/").text == "POST"

    def test_nonblocking_methods_mark_the_view(self, app: Flask) -> None:
        class All(MethodView):
            @nonblocking
            def get(self) -> str:
                return "fast"

        class Some(All):
            def post(self) -> str:
                return ""

        view = All.as_view("all")
        assert getattr(view, "_nonblocking", False)
        assert not hasattr(Some.as_view("some"), "_nonblocking")
        app.add_url_rule("/", view_func=view)
        assert app.test_client().get("/").text == "fast"


def inspect_loop() -> None:
    import asyncio

    asyncio.get_running_loop()
