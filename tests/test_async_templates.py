"""render_template_async and its kin: templates and context processors that await, on both faces."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from edge import Exchange, get, wait_until
from jinja2 import (
    DictLoader,
    Environment as JinjaEnvironment,
    FileSystemBytecodeCache,
    TemplateNotFound,
    UndefinedError,
)

from asyncflask import (
    Blueprint,
    Flask,
    before_render_template,
    g,
    nonblocking,
    render_template,
    render_template_async,
    render_template_string,
    render_template_string_async,
    request,
    session,
    stream_template_async,
    stream_template_string_async,
    template_rendered,
)

FACES = ("wsgi", "asgi")
LIST = "{% for item in load(3) %}{{ item }},{% endfor %}"


async def load(count: int) -> list[int]:
    await asyncio.sleep(0)
    return list(range(count))


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "list.html").write_text(LIST)
    (folder / "base.html").write_text("<{% block body %}{% endblock %}>{% include 'list.html' %}")
    (folder / "page.html").write_text(
        "{% extends 'base.html' %}{% from 'macros.html' import hello with context %}"
        "{% block body %}{{ hello('<') }}{{ value }}{% endblock %}"
    )
    (folder / "macros.html").write_text("{% macro hello(name) %}{{ name }}{{ load(1) }}{% endmacro %}")
    app = Flask("site", root_path=str(tmp_path))
    app.testing = True
    app.secret_key = "key"
    app.jinja_env.globals["load"] = load
    return app


def add(app: Flask, render: t.Callable[[], t.Awaitable[t.Any]], rule: str = "/") -> None:
    async def view() -> t.Any:
        return await render()

    app.add_url_rule(rule, rule, view)


@pytest.mark.parametrize("face", FACES)
def test_template_that_awaits(app: Flask, face: str) -> None:
    add(app, lambda: render_template_async("page.html", value=2))
    assert app.test_client(face=face).get("/").text == "<&lt;[0]2>0,1,2,"


@pytest.mark.parametrize("face", FACES)
def test_string_list_of_names_and_streams(app: Flask, face: str) -> None:
    add(app, lambda: render_template_string_async("{{ load(2) }} {{ x }}", x="<"), "/string")
    add(app, lambda: render_template_async(["missing.html", "list.html"]), "/names")
    add(app, lambda: stream_template_async("list.html"), "/stream")
    add(app, lambda: stream_template_string_async(LIST + "{{ request.path }}"), "/stream-string")
    client = app.test_client(face=face)
    assert client.get("/string").text == "[0, 1] &lt;"
    assert client.get("/names").text == client.get("/stream").text == "0,1,2,"
    assert client.get("/stream-string").text == "0,1,2,/stream-string"


async def test_outside_of_a_request(app: Flask) -> None:
    async with app.app_context():
        assert await render_template_async("list.html") == "0,1,2,"
        chunks = [chunk async for chunk in await stream_template_async("list.html")]
    assert len(chunks) > 1 and "".join(chunks) == "0,1,2,"


async def test_missing_template(app: Flask) -> None:
    async with app.app_context():
        for render in (render_template_async, stream_template_async):
            with pytest.raises(TemplateNotFound):
                await render("missing.html")


async def test_error_in_a_template_points_into_it(app: Flask) -> None:
    async with app.app_context():
        with pytest.raises(UndefinedError) as caught:
            await render_template_string_async("\n\n{{ missing.attribute }}")
    assert ("<template>", 3) in [(str(entry.path), entry.lineno + 1) for entry in caught.traceback]


def test_sync_environment_stays_as_it_is(app: Flask) -> None:
    assert not app.jinja_env.is_async
    with app.app_context():
        asyncio.run(render_template_string_async("{{ load(1) }}"))
        assert not app.jinja_env.is_async
        assert render_template_string("{{ 1 + 1 }}") == "2"
        assert "coroutine" in render_template_string("{% set c = load(1) %}{{ c }}{% set _ = c.close() %}")


# What both environments share


async def test_what_is_added_later(app: Flask) -> None:
    async with app.app_context():
        await render_template_string_async("x")
        app.jinja_env.filters["shout"] = lambda text: text + "!"
        app.jinja_env.tests["small"] = lambda number: number < 3
        app.jinja_env.globals["later"] = load
        app.add_template_filter(load, "as_list")
        text = await render_template_string_async("{{ 'a'|shout }} {{ 1 is small }} {{ later(1) }} {{ 2|as_list }}")
    assert text == "a! True [0] [0, 1]"


async def test_options_and_loaders(app: Flask) -> None:
    app = Flask("other", root_path=app.root_path)
    app.jinja_options = {"trim_blocks": True, "line_statement_prefix": "%", "extensions": ["jinja2.ext.do"]}
    app.jinja_env.loader = DictLoader({"one.txt": "{% do [] %}\n% if True\n{{ '<' }}\n% endif"})
    async with app.app_context():
        assert await render_template_async("one.txt") == "<\n"
        assert await render_template_string_async("{{ '<' }}") == "&lt;"


async def test_environment_that_is_replaced(app: Flask) -> None:
    async with app.app_context():
        await render_template_string_async("x")
        vars(app)["jinja_env"] = JinjaEnvironment(variable_start_string="[[", variable_end_string="]]")
        assert await render_template_string_async("[[ f() ]]", f=lambda: load(1)) == "[0]"


def change(path: Path) -> None:
    path.write_text("changed")
    os.utime(path, (0, path.stat().st_mtime + 5))


async def test_reloaded_in_debug_mode(app: Flask) -> None:
    path = Path(app.root_path, "templates", "list.html")
    async with app.app_context():
        assert await render_template_async("list.html") == "0,1,2,"
        app.debug = True
        change(path)
        assert await render_template_async("list.html") == "changed"


# Context processors


@pytest.mark.parametrize("face", FACES)
def test_context_processors_of_both_kinds(app: Flask, face: str) -> None:
    blueprint = Blueprint("b", __name__)
    threads: dict[str, int] = {}

    @app.context_processor
    async def first() -> dict[str, t.Any]:
        await asyncio.sleep(0)
        threads["loop"] = threading.get_ident()
        return {"a": "async", "b": "async", "given": "processor"}

    @app.context_processor
    def second() -> dict[str, t.Any]:
        threads["sync"] = threading.get_ident()
        return {"b": f"sync {request.path}"}

    @app.context_processor
    @nonblocking
    def third() -> dict[str, t.Any]:
        threads["nonblocking"] = threading.get_ident()
        return {"c": g.x}

    @blueprint.context_processor
    async def of_blueprint() -> dict[str, t.Any]:
        return {"d": session.get("y", "none")}

    @blueprint.get("/b")
    async def view() -> str:
        g.x = "of g"
        return await render_template_string_async("{{ a }}|{{ b }}|{{ c }}|{{ d }}|{{ given }}", given="view")

    app.register_blueprint(blueprint)
    assert app.test_client(face=face).get("/b").text == "async|sync /b|of g|none|view"
    assert threads["loop"] == threads["nonblocking"] != threads["sync"]


@pytest.mark.parametrize("face", FACES)
def test_sync_form_names_the_async_one(app: Flask, face: str) -> None:
    @app.context_processor
    async def inject() -> dict[str, t.Any]:
        return {"a": 1}

    @app.get("/async")
    async def async_view() -> str:
        return render_template_string("{{ a }}")

    @app.get("/sync")
    def view() -> str:
        return render_template_string("{{ a }}")

    client = app.test_client(face=face)
    assert client.get("/sync").text == "1"
    with pytest.raises(RuntimeError, match="render_template_async"):
        client.get("/async")


async def test_update_template_context_that_is_overridden(app: Flask) -> None:
    class Own(Flask):
        def update_template_context(self, context: dict[str, t.Any]) -> None:
            super().update_template_context(context)
            context["own"] = context["given"] + context["injected"]

    app = Own("site", root_path=app.root_path)

    @app.context_processor
    async def inject() -> dict[str, t.Any]:
        return {"injected": 2}

    async with app.app_context():
        assert await render_template_string_async("{{ own }}", given=1) == "3"


# Signals


@pytest.mark.parametrize("streamed", [False, True])
async def test_signals_with_receivers_of_both_kinds(app: Flask, streamed: bool) -> None:
    seen: list[t.Any] = []

    def note(sender: Flask, template: t.Any, context: dict[str, t.Any], **_: t.Any) -> None:
        seen.append((template.name, context["x"]))

    async def note_async(sender: Flask, template: t.Any, context: dict[str, t.Any], **_: t.Any) -> None:
        await asyncio.sleep(0)
        context["x"] += 1

    async with app.app_context():
        with before_render_template.connected_to(note_async, app), template_rendered.connected_to(note, app):
            if streamed:
                chunks = await stream_template_async("list.html", x=1)
                assert seen == []
                assert "".join([chunk async for chunk in chunks]) == "0,1,2,"
            else:
                await render_template_async("list.html", x=1)
    assert seen == [("list.html", 2)]


# Streams


async def test_stream_is_made_as_it_is_sent_and_closed_when_the_client_leaves(app: Flask) -> None:
    closed = []

    async def rows() -> t.AsyncIterator[int]:
        try:
            for number in range(1000):
                yield number
                await asyncio.sleep(0 if number < 3 else 60)
        finally:
            closed.append(request.path)

    add(app, lambda: stream_template_string_async("{% for row in rows %}{{ row }},{% endfor %}", rows=rows()))
    exchange = Exchange()
    task = asyncio.create_task(app(exchange.scope, exchange.receive, exchange.send))  # type: ignore[arg-type,call-arg,func-returns-value]
    await wait_until(lambda: exchange.text == "0,1,2,3,")
    exchange.left.set()
    async with asyncio.timeout(1):
        await task
    assert closed == ["/"]


async def test_many_at_once(app: Flask) -> None:
    @app.get("/<int:number>")
    async def view(number: int) -> str:
        return await render_template_string_async("{{ request.path }} {{ load(number) | length }}", number=number)

    answers = await asyncio.gather(*(get(app, f"/{number}") for number in range(50)))
    assert [answer.text for answer in answers] == [f"/{number} {number}" for number in range(50)]


@pytest.fixture(autouse=True)
def no_pending_coroutine() -> Iterator[None]:
    """A coroutine that a template forgot would warn when it is collected."""
    yield
    gc.collect()


def test_sync_rendering_is_not_disturbed(app: Flask) -> None:
    with app.app_context():
        asyncio.run(render_template_async("list.html"))
        assert render_template("macros.html") == ""


async def test_cache_of_bytecode(app: Flask, tmp_path: Path) -> None:
    """It does not hand the one kind's code to the other."""
    app.jinja_env.bytecode_cache = FileSystemBytecodeCache(str(tmp_path))
    (tmp_path / "templates" / "both.html").write_text("{{ 1 + 1 }}{% include 'plain.html' %}")
    (tmp_path / "templates" / "plain.html").write_text("!")
    async with app.app_context():
        for _ in range(2):
            assert render_template("both.html") == "2!"
            assert await render_template_async("both.html") == "2!"
            app.jinja_env.cache.clear()  # type: ignore[union-attr]
