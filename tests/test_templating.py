"""Templates: where they are found, what they see, who is told, and how they stream."""

from __future__ import annotations

import logging
import typing as t
from pathlib import Path

import flask.debughelpers
import flask.templating
import pytest
from jinja2 import DictLoader, Template as BaseTemplate, TemplateNotFound

from asyncflask import (
    Blueprint,
    Flask,
    Response,
    before_render_template,
    g,
    get_template_attribute,
    render_template,
    render_template_string,
    request,
    session,
    stream_template,
    stream_template_string,
    template_rendered,
)
from asyncflask.templating import DispatchingJinjaLoader, Environment

TEMPLATES = {
    "app/templates/page.html": "app page {{ value }}",
    "app/templates/text.txt": "{{ value }}",
    "app/templates/_macros.html": "{% macro hello(name) %}Hello {{ name }}!{% endmacro %}{% set size = 3 %}",
    "one/templates/page.html": "one page",
    "one/templates/both.html": "one both",
    "two/templates/both.html": "two both",
    "two/templates/only.html": "two only",
}


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    """An application whose folder, and whose blueprints' folders, have templates."""
    for name, text in TEMPLATES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    app = Flask("site", root_path=str(tmp_path / "app"))
    app.secret_key = "key"
    for name in ("one", "two"):
        blueprint = Blueprint(name, name, root_path=str(tmp_path / name), template_folder="templates")
        blueprint.add_url_rule(f"/{name}/<template>", view_func=show, endpoint="show")
        app.register_blueprint(blueprint)
    return app


def show(template: str) -> str:
    return render_template(template)


class TestLookup:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("page.html", "app page <"),
            ("both.html", "one both"),
            ("only.html", "two only"),
            (["missing.html", "only.html"], "two only"),
        ],
    )
    @pytest.mark.parametrize("explained", [False, True])
    def test_the_applications_templates_first(self, app: Flask, explained: bool, name: t.Any, expected: str) -> None:
        app.config["EXPLAIN_TEMPLATE_LOADING"] = explained
        with app.app_context():
            assert render_template(name, value="<").replace("&lt;", "<") == expected

    @pytest.mark.parametrize("explained", [False, True])
    def test_a_missing_template_is_named(self, app: Flask, explained: bool) -> None:
        app.config["EXPLAIN_TEMPLATE_LOADING"] = explained
        with app.app_context(), pytest.raises(TemplateNotFound, match=r"missing\.html"):
            render_template("missing.html")

    def test_templates_are_listed_once(self, app: Flask) -> None:
        names = sorted(app.jinja_env.list_templates())
        assert names == ["_macros.html", "both.html", "only.html", "page.html", "text.txt"]

    def test_a_template_object_is_rendered(self, app: Flask) -> None:
        with app.app_context():
            template = app.jinja_env.from_string("{{ x }}")
            assert render_template(template, x=1) == "1"
            assert "".join(stream_template([template], x=2)) == "2"

    def test_environment_takes_another_loader(self, app: Flask) -> None:
        environment = Environment(app, loader=DictLoader({"a": "{{ 1 }}"}))
        assert environment.app is app
        assert environment.get_template("a").render() == "1"
        assert isinstance(Environment(app).loader, DispatchingJinjaLoader)

    def test_own_environment_class(self) -> None:
        class OwnEnvironment(Environment):
            pass

        class OwnFlask(Flask):
            jinja_environment = OwnEnvironment

        assert isinstance(OwnFlask(__name__).jinja_env, OwnEnvironment)


class TestExplanation:
    def explain(self, app: t.Any, path: str, caplog: pytest.LogCaptureFixture) -> str:
        app.config["EXPLAIN_TEMPLATE_LOADING"] = True
        with caplog.at_level(logging.INFO, logger="site"):
            app.test_client().get(path)
        return "\n".join(record.getMessage() for record in caplog.records if record.levelno == logging.INFO)

    def test_every_attempt_is_reported(self, app: Flask, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        report = self.explain(app, "/two/missing.html", caplog)
        assert report.splitlines()[0] == "Locating template 'missing.html':"
        for expected in (
            "    1: trying loader of application 'site'\n       class: jinja2.loaders.FileSystemLoader\n",
            "       encoding: 'utf-8'\n       followlinks: False\n       searchpath:\n"
            f"         - {tmp_path}/app/templates\n       -> no match",
            "    2: trying loader of blueprint 'one' (one)\n",
            "    3: trying loader of blueprint 'two' (two)\n",
            "Error: the template could not be found.\n",
            "looked up from an endpoint that belongs to the blueprint 'two'.",
            "See https://flask.palletsprojects.com/blueprints/#templates",
        ):
            assert expected in report

    def test_several_matches_are_suspect(self, app: Flask, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        report = self.explain(app, "/one/page.html", caplog)
        assert f"-> found ('{tmp_path}/one/templates/page.html')" in report
        assert "Warning: multiple loaders returned a match" in report

    def test_one_match_is_fine(self, app: Flask, caplog: pytest.LogCaptureFixture) -> None:
        report = self.explain(app, "/one/only.html", caplog)
        assert "-> found" in report
        assert "Warning" not in report
        assert "belongs to" not in report

    def test_templates_from_strings_are_said_to_be(self, app: Flask, caplog: pytest.LogCaptureFixture) -> None:
        app.jinja_loader = DictLoader({"page.html": "x"})
        assert "-> found ('<string>')" in self.explain(app, "/one/page.html", caplog)


class TestContext:
    def test_standard_names_in_a_request(self, app: Flask) -> None:
        source = "{{ request.path }} {{ g.x }} {{ session.y }} {{ config.Z }} {{ url_for('index') }} {{ v }}"
        app.config["Z"] = 3

        @app.get("/")
        def index() -> str:
            g.x, session["y"] = 1, 2
            return render_template_string(source, v=4)

        assert app.test_client().get("/").text == "/ 1 2 3 / 4"

    def test_standard_names_without_a_request(self, app: Flask) -> None:
        with app.app_context():
            g.x = 1
            text = render_template_string("{{ g.x }} {{ config.TESTING }}")
        assert text == "1 False"

    def test_a_template_which_ignores_the_session_does_not_vary(self, app: Flask) -> None:
        @app.get("/<kind>")
        def view(kind: str) -> str:
            return render_template_string("{{ session.x }}" if kind == "session" else "{{ request.path }}")

        client = app.test_client()
        assert "Vary" not in client.get("/request").headers
        assert client.get("/session").headers["Vary"] == "Cookie"

    def test_arguments_win_over_processors(self, app: Flask) -> None:
        app.context_processor(lambda: {"a": 1, "b": 1, "request": "processed"})
        with app.test_request_context():
            assert render_template_string("{{ a }} {{ b }} {{ request }}", b=2) == "1 2 processed"

    def test_globals_of_the_environment_and_of_one_template(self, app: Flask) -> None:
        app.jinja_env.globals.update(a="environment", b="environment")
        template = app.jinja_env.from_string(
            "{{ a }} {{ b }} {{ c }}{% import '_macros.html' as m %} {{ m.size }}", globals={"b": "template"}
        )
        with app.app_context():
            assert render_template(template, c=1) == "environment template 1 3"
            assert render_template(template, a=1, b=2) == "1 2  3"
            app.jinja_env.globals["a"] = "changed"
            template.globals["c"] = "added"
            assert render_template(template) == "changed template added 3"

    def test_a_block_and_an_included_template_see_the_same(self, app: Flask) -> None:
        app.jinja_env.globals["a"] = "global"
        text = "{% set a = 1 %}{% block x %}{{ a }}{% endblock %} {% include 'page.html' %}{{ self.x() }}"
        with app.app_context():
            template = app.jinja_env.from_string(text)
            plain = BaseTemplate.new_context(template, {"value": 2})
            assert render_template(template, value=2) == "".join(template.root_render_func(plain)) == "1 app page 21"
            assert template.new_context({"value": 2}).globals_keys == plain.globals_keys

    def test_own_template_class(self, app: Flask) -> None:
        class OwnTemplate(BaseTemplate):
            def render(self, *args: t.Any, **kwargs: t.Any) -> str:
                return f"own {super().render(*args, **kwargs)}"

        app.jinja_env.template_class = OwnTemplate
        with app.app_context():
            assert render_template("page.html", value=1) == "own app page 1"

    @pytest.mark.parametrize("asynchronous", [False, True])
    def test_processors_of_the_application_and_of_the_blueprint(self, app: Flask, asynchronous: bool) -> None:
        async def give_async() -> dict[str, t.Any]:
            return {"a": "app", "b": "app"}

        app.context_processor(give_async if asynchronous else lambda: {"a": "app", "b": "app"})
        app.template_context_processors["one"].append(lambda: {"b": "one"})
        with app.test_request_context("/one/x"):
            assert render_template_string("{{ a }} {{ b }}") == "app one"
        with app.test_request_context("/two/x"):
            assert render_template_string("{{ a }} {{ b }}") == "app app"

    def test_own_update_of_the_context(self) -> None:
        class Own(Flask):
            def update_template_context(self, context: dict[str, t.Any]) -> None:
                super().update_template_context(context)
                context["a"] = sorted(context)

        with Own(__name__).test_request_context():
            assert render_template_string("{{ a|join }}", b=1) == "bgrequest"

    def test_markup_is_escaped_where_it_is_html(self, app: Flask) -> None:
        with app.app_context():
            assert render_template("page.html", value="<") == "app page &lt;"
            assert render_template("text.txt", value="<") == "<"
            assert render_template_string("{{ value }}", value="<") == "&lt;"

    def test_template_attribute(self, app: Flask) -> None:
        with app.app_context():
            assert get_template_attribute("_macros.html", "hello")("World") == "Hello World!"
            assert get_template_attribute("_macros.html", "size") == 3
            with pytest.raises(AttributeError):
                get_template_attribute("_macros.html", "missing")

    def test_outside_of_a_context(self) -> None:
        for render in (render_template_string, render_template, stream_template_string, stream_template):
            with pytest.raises(RuntimeError, match="outside of application context"):
                render("x")


class TestSignals:
    @pytest.mark.parametrize("stream", [False, True])
    def test_before_and_after(self, app: Flask, stream: bool) -> None:
        told: list[tuple[t.Any, ...]] = []

        def before(sender: Flask, template: t.Any, context: dict[str, t.Any]) -> None:
            told.append(("before", sender, template.name, context["value"]))
            context["value"] = 2

        def after(sender: Flask, template: t.Any, context: dict[str, t.Any]) -> None:
            told.append(("after", sender, template.name, context["value"]))

        with (
            before_render_template.connected_to(before, app),
            template_rendered.connected_to(after, app),
            app.app_context(),
        ):
            if stream:
                chunks = stream_template("text.txt", value=1)
                assert [name for name, *_ in told] == ["before"]
                assert "".join(chunks) == "2"
            else:
                assert render_template("text.txt", value=1) == "2"
        assert told == [("before", app, "text.txt", 1), ("after", app, "text.txt", 2)]

    def test_an_async_receiver(self, app: Flask) -> None:
        told = []

        async def before(sender: Flask, **extra: t.Any) -> None:
            told.append(extra["template"].name)

        with before_render_template.connected_to(before, app), app.app_context():
            render_template("text.txt", value=1)
        assert told == ["text.txt"]


class TestStreaming:
    SOURCE = "{% for x in range(3) %}{{ x }}{{ request.args.name }}\n{% endfor %}"

    def test_the_request_is_there_while_streaming(self, app: Flask) -> None:
        @app.get("/")
        def index() -> Response:
            return Response(stream_template_string(self.SOURCE))

        assert app.test_client().get("/?name=n").text == "0n\n1n\n2n\n"

    def test_a_view_may_return_the_stream(self, app: Flask) -> None:
        @app.get("/")
        def index() -> t.Iterator[str]:
            assert request.args["name"] == "n"
            return stream_template("page.html", value=request.args["name"])

        assert app.test_client().get("/?name=n").text == "app page n"

    def test_without_a_request(self, app: Flask) -> None:
        with app.app_context():
            assert "".join(stream_template_string("{{ config.TESTING }}")) == "False"


def test_a_template_knows_the_application_outside_of_any_context(app: Flask) -> None:
    values: dict[str, t.Any] = {"mine": 1}
    app.update_template_context(values)
    assert values == {"mine": 1}
    assert app.jinja_env.from_string("{{ config.TESTING }}").render() == "False"


def test_a_compiled_template_with_globals_of_its_own(app: Flask) -> None:
    """As Jinja's loaders make them, but not from `make_globals`."""
    env = app.jinja_env
    code = t.cast(t.Any, env.compile("{{ mine }} {{ config }}"))
    assert env.template_class.from_code(env, code, {"mine": 1}).render() == "1 "


@pytest.mark.parametrize("asynchronous", [False, True])
def test_rendering_in_either_kind_of_view(app: Flask, asynchronous: bool) -> None:
    async def show_async() -> str:
        return render_template("page.html", value=request.args["v"])

    def show_sync() -> str:
        return render_template("page.html", value=request.args["v"])

    app.add_url_rule("/", view_func=show_async if asynchronous else show_sync)
    assert app.test_client().get("/?v=1").text == "app page 1"


def test_the_explanation_of_loaders_is_flasks(tmp_path: Path) -> None:
    from asyncflask.debughelpers import _dump_loader_info

    loaders = [
        DispatchingJinjaLoader(Flask(__name__)),
        flask.templating.DispatchingJinjaLoader(flask.Flask(__name__)),
        DictLoader({}),
    ]
    loaders[2].__dict__.update(_private=1, number=1.5, mixed=[1, "a"], names=("a", "b"), other=object())
    for loader in loaders:
        assert list(_dump_loader_info(loader)) == list(flask.debughelpers._dump_loader_info(loader))
