"""The command line: groups, contexts, options, `routes`, and commands that are `async def`."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import ssl
import subprocess
import sys
import types
from contextvars import ContextVar
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from asyncflask import Blueprint, Flask, cli as cli_module, current_app, envfiles, g
from asyncflask.cli import AppGroup, FlaskGroup, ScriptInfo, load_dotenv, run_command, with_appcontext

ROOT = Path(__file__).parents[1]


@pytest.fixture
def runner():
    return CliRunner()


@pytest.fixture
def app():
    return Flask("shop")


@pytest.fixture(autouse=True)
def clean_environ(monkeypatch):
    """Commands set variables of the process; each test begins without them, and leaves none."""
    for name in ("FLASK_APP", "FLASK_DEBUG", "FLASK_RUN_FROM_CLI", "FLASK_SKIP_DOTENV"):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before:
        del os.environ[name]


def run_module(folder, *arguments, module="asyncflask", **environ):
    """`python -m asyncflask` in a folder."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_every_name_of_flasks_module_is_here():
    names = """AppGroup CertParamType FlaskGroup NoAppException ScriptInfo SeparatedPathType cli find_app_by_string
        find_best_app get_debug_flag get_load_dotenv get_version load_dotenv locate_app main pass_script_info
        prepare_import routes_command run_command shell_command show_server_banner version_option
        with_appcontext""".split()
    assert [name for name in names if not hasattr(cli_module, name)] == []


class TestModule:
    """The whole command, in a process of its own."""

    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "shop.py").write_text(
            "import click\n"
            "from asyncflask import Flask, current_app\n"
            "app = Flask(__name__)\n"
            "@app.cli.command()\n"
            "async def count():\n"
            "    click.echo(f'counted in {current_app.name}, debug {current_app.debug}')\n"
            "def make(name): return Flask(name)\n"
        )
        return tmp_path

    def test_a_command_of_the_app(self, folder):
        done = run_module(folder, "--app", "shop", "count")
        assert (done.returncode, done.stdout, done.stderr) == (0, "counted in shop, debug False\n", "")

    def test_the_app_and_debug_mode_from_the_environment(self, folder):
        done = run_module(folder, "count", FLASK_APP="shop:app", FLASK_DEBUG="1")
        assert done.stdout == "counted in shop, debug True\n", done.stderr

    def test_the_app_from_a_dotenv_file(self, folder):
        (folder / ".flaskenv").write_text("FLASK_APP=shop\n")
        assert run_module(folder, "count").stdout == "counted in shop, debug False\n"

    def test_a_factory_with_arguments(self, folder):
        done = run_module(folder, "--app", "shop:make('other')", "routes")
        assert done.returncode == 0
        assert "/static/<path:filename>" in done.stdout

    def test_the_app_from_its_file(self, folder):
        (folder / "shop.py").rename(folder / "wsgi.py")
        assert run_module(folder, "count").stdout == "counted in wsgi, debug False\n"

    def test_no_app(self, folder):
        done = run_module(folder, "routes")
        assert done.returncode == 2
        assert "'asyncflask --app'" in done.stderr
        assert "Traceback" not in done.stderr

    def test_help_lists_the_apps_commands(self, folder):
        done = run_module(folder, "--app", "shop", "--help")
        assert done.returncode == 0
        assert {"count", "routes", "run", "shell"} <= {line.split()[0] for line in done.stdout.splitlines() if line}

    def test_shell_evaluates_in_the_apps_context(self, folder):
        done = subprocess.run(
            [sys.executable, "-m", "asyncflask", "--app", "shop", "shell"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            input="import asyncflask\nprint(asyncflask.current_app.name, app.name, g)\n",
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert "shop shop <" in done.stdout, done.stderr
        assert "App: shop" in done.stderr

    def test_version(self, folder):
        done = run_module(folder, "--version")
        werkzeug = importlib.metadata.version("werkzeug")
        for part in (
            f"Python {platform.python_version()}",
            "asyncflask ",
            "Flask 3.1.3",
            f"Werkzeug {werkzeug}",
        ):
            assert part in done.stdout

    def test_version_of_a_checkout(self, runner, monkeypatch):
        known = importlib.metadata.version

        def version(name):
            if name == "asyncflask":
                raise importlib.metadata.PackageNotFoundError(name)
            return known(name)

        monkeypatch.setattr(importlib.metadata, "version", version)
        assert "asyncflask (not installed), as Flask 3.1.3" in runner.invoke(cli_module.cli, ["--version"]).output

    def test_the_module_of_the_commands_is_one(self, folder):
        """As `python -m flask.cli`."""
        done = run_module(folder, "--app", "shop", "routes", module="asyncflask.cli")
        assert (done.returncode, "Endpoint" in done.stdout) == (0, True), done.stderr


class TestAsyncCommands:
    def test_runs_on_a_loop_with_the_context(self, app):
        @app.cli.command()
        @click.argument("name")
        @click.option("--loud", is_flag=True)
        async def greet(name, loud):
            await asyncio.sleep(0)
            click.echo(f"{'HELLO' if loud else 'hello'} {name} from {current_app.name}")

        result = app.test_cli_runner().invoke(args=["greet", "you", "--loud"])
        assert result.output == "HELLO you from shop\n"

    def test_its_value_and_its_errors_arrive(self, app):
        @app.cli.command()
        async def good():
            return 42

        @app.cli.command()
        async def bad():
            raise click.UsageError("not like this")

        @app.cli.command()
        async def worse():
            raise LookupError("lost")

        runner = app.test_cli_runner()
        assert runner.invoke(args=["good"], standalone_mode=False).return_value == 42
        result = runner.invoke(args=["bad"])
        assert (result.exit_code, "not like this" in result.output) == (2, True)
        assert isinstance(runner.invoke(args=["worse"]).exception, LookupError)

    def test_context_variables_flow_both_ways(self, app):
        user = ContextVar("user", default="nobody")

        @app.cli.command()
        @click.pass_context
        async def inner(ctx):
            g.seen = user.get()
            user.set("inner")

        @app.cli.command()
        @click.pass_context
        def outer(ctx):
            user.set("outer")
            ctx.invoke(inner)
            return g.seen, user.get()

        result = app.test_cli_runner().invoke(args=["outer"], standalone_mode=False)
        assert result.return_value == ("outer", "inner")

    def test_a_sync_wrapper_that_returns_a_coroutine(self, app):
        @app.cli.command()
        @click.pass_context
        async def show(ctx):
            click.echo(ctx.info_name)

        assert app.test_cli_runner().invoke(args=["show"]).output == "show\n"

    def test_without_the_context(self, app):
        @app.cli.command(with_appcontext=False)
        async def bare():
            click.echo(bool(current_app))

        # A command object, since the group of a FlaskGroup pushes the context anyway.
        assert CliRunner().invoke(bare).output == "False\n"

    def test_with_appcontext_by_itself(self, app, runner):
        @click.command()
        @with_appcontext
        async def show():
            click.echo(current_app.name)

        assert runner.invoke(show, obj=ScriptInfo(create_app=lambda: app)).output == "shop\n"

    async def test_invoked_from_async_code(self, app):
        @app.cli.command()
        async def show():
            await asyncio.sleep(0)
            click.echo(current_app.name)

        assert app.test_cli_runner().invoke(args=["show"]).output == "shop\n"

    def test_a_blueprints_command(self, app):
        pages = Blueprint("pages", __name__)

        @pages.cli.command()
        async def build():
            click.echo(f"built for {current_app.name}")

        app.register_blueprint(pages)
        assert app.test_cli_runner().invoke(args=["pages", "build"]).output == "built for shop\n"


class TestContexts:
    def test_callbacks_of_parameters_have_it(self, app, runner):
        @app.cli.command()
        @click.argument("value", callback=lambda ctx, param, value: bool(current_app))
        def check(value):
            loaded = click.get_current_context().obj.load_app()
            return value, current_app._get_current_object() is loaded

        group = FlaskGroup(create_app=lambda: app)
        assert runner.invoke(group, ["check", "x"], standalone_mode=False).return_value == (True, True)

    def test_a_group_in_a_group(self, app, runner):
        @click.group(cls=AppGroup)
        def tools():
            pass

        @tools.group()
        def users():
            pass

        @users.command
        def add():
            click.echo(current_app.name)

        assert isinstance(users, AppGroup)
        result = runner.invoke(tools, ["users", "add"], obj=ScriptInfo(create_app=lambda: app))
        assert result.output == "shop\n"

    def test_the_context_is_torn_down_at_the_end(self, app):
        seen = []
        app.teardown_appcontext(lambda error: seen.append("down"))

        @app.cli.command()
        async def work():
            seen.append("work")

        app.test_cli_runner().invoke(args=["work"])
        assert seen == ["work", "down"]


class TestScriptInfo:
    def test_loads_once(self, app):
        made = []
        info = ScriptInfo(create_app=lambda: made.append(app) or app)
        assert info.load_app() is info.load_app() is app
        assert made == [app]

    def test_sets_the_debug_flag_unless_told_not_to(self, app, monkeypatch):
        app.debug = True
        ScriptInfo(create_app=lambda: app, set_debug_flag=False).load_app()
        assert app.debug
        ScriptInfo(create_app=lambda: app).load_app()
        assert not app.debug

    def test_dotenv_can_be_switched_off(self, monkeypatch):
        assert ScriptInfo().load_dotenv_defaults
        assert not ScriptInfo(load_dotenv_defaults=False).load_dotenv_defaults
        monkeypatch.setenv("FLASK_SKIP_DOTENV", "1")
        assert not ScriptInfo().load_dotenv_defaults


class TestFlaskGroup:
    def test_a_broken_app_leaves_the_other_commands(self, runner):
        def create_app():
            raise LookupError("lost")

        result = runner.invoke(FlaskGroup(create_app=create_app), ["--help"])
        assert result.exit_code == 0
        assert "LookupError: lost" in result.stderr
        assert "routes" in result.stdout

    def test_an_unknown_command_tells_why_there_is_no_app(self, runner, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        result = runner.invoke(cli_module.cli, ["missing"])
        assert result.exit_code == 2
        assert "FLASK_APP" in result.stderr

    def test_without_the_commands_of_its_own(self, app):
        group = FlaskGroup(create_app=lambda: app, add_default_commands=False)
        assert not group.commands

    def test_an_application_that_the_caller_has_found(self, runner, app):
        app.add_url_rule("/found", "found", print)
        assert "/found" in runner.invoke(FlaskGroup(), ["routes"], obj=ScriptInfo(create_app=lambda: app)).output

    def test_a_context_that_is_there_is_not_pushed_again(self, runner, app):
        downs = []
        app.teardown_appcontext(lambda error: downs.append(error))
        app.cli.command("name")(lambda: click.echo(g.name))
        with app.app_context():
            g.name = "the caller's"
            assert runner.invoke(FlaskGroup(create_app=lambda: app), ["name"]).output == "the caller's\n"
            assert downs == []

    def test_debug_is_in_the_environment_while_a_factory_runs(self, runner):
        def create_app():
            return Flask(f"debug-{os.environ['FLASK_DEBUG']}")

        group = FlaskGroup(create_app=create_app)
        group.command("name")(lambda: click.echo(current_app.name))
        assert runner.invoke(group, ["--debug", "name"]).output == "debug-1\n"
        assert runner.invoke(group, ["--no-debug", "name"]).output == "debug-0\n"

    def test_plugins_of_both_groups_and_those_for_flask_itself(self, runner, app, monkeypatch):
        def entry(name, load):
            return types.SimpleNamespace(name=name, load=load)

        def need_flask():
            raise ModuleNotFoundError("No module named 'flask'", name="flask")

        groups = {
            "asyncflask.commands": [entry("ours", lambda: click.Command("ours", callback=lambda: None))],
            "flask.commands": [
                entry("theirs", lambda: click.Command("theirs", callback=lambda: None)),
                entry("unusable", need_flask),
            ],
        }
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: groups[group])
        group = FlaskGroup(create_app=lambda: app)
        assert runner.invoke(group, ["ours"]).exit_code == 0
        assert runner.invoke(group, ["theirs"]).exit_code == 0
        assert runner.invoke(group, ["unusable"]).exit_code == 2

    def test_another_missing_module_of_a_plugin_is_an_error(self, runner, app, monkeypatch):
        def need_other():
            raise ModuleNotFoundError("No module named 'other'", name="other")

        entries = [types.SimpleNamespace(name="broken", load=need_other)]
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: entries)
        result = runner.invoke(FlaskGroup(create_app=lambda: app), ["broken"])
        assert isinstance(result.exception, ModuleNotFoundError)


class TestRoutes:
    @pytest.fixture
    def app(self):
        app = Flask(__name__)

        @app.get("/<int:number>")
        async def awaited(number):
            return ""

        @app.post("/zzz")
        def blocking():
            return ""

        app.add_url_rule("/both", endpoint="both", view_func=lambda: "", methods=["GET", "POST"])
        return app

    @staticmethod
    def show(app, *arguments):
        return CliRunner().invoke(FlaskGroup(create_app=lambda: app), ["routes", *arguments])

    @classmethod
    def rows(cls, app, *arguments):
        result = cls.show(app, *arguments)
        assert result.exit_code == 0, result.output
        header, line, *rows = result.output.splitlines()
        assert set(line) == {"-", " "}
        return [header.split(), *([cell.strip() for cell in row.split("  ") if cell] for row in rows)]

    def test_columns_and_where_each_view_runs(self, app):
        header, *rows = self.rows(app)
        assert header == ["Endpoint", "Methods", "Rule", "Runs"]
        by_endpoint = {row[0]: row[1:] for row in rows}
        assert list(by_endpoint) == sorted(by_endpoint)
        assert by_endpoint["awaited"] == ["GET", "/<int:number>", "loop"]
        assert by_endpoint["blocking"] == ["POST", "/zzz", "thread"]
        assert by_endpoint["both"] == ["GET, POST", "/both", "thread"]

    def test_a_sync_hook_makes_an_async_view_mixed(self, app):
        app.before_request(lambda: None)
        places = {row[0]: row[-1] for row in self.rows(app)}
        assert (places["awaited"], places["blocking"]) == ("mixed", "thread")

    def test_behind_wsgi_middleware_all_begins_in_a_thread(self, app):
        wrapped = app.wsgi_app
        app.wsgi_app = lambda environ, start_response: wrapped(environ, start_response)
        assert {row[-1] for row in self.rows(app)[1:]} == {"thread"}

    def test_a_route_without_a_view(self, app):
        app.add_url_rule("/later", endpoint="later")
        assert "later" in {row[0] for row in self.rows(app)}

    @pytest.mark.parametrize(("sort", "column"), [("endpoint", 0), ("methods", 1), ("rule", 2)])
    def test_sort(self, app, sort, column):
        cells = [row[column] for row in self.rows(app, "-s", sort)[1:]]
        assert cells == sorted(cells)

    def test_sort_by_match(self, app):
        expected = [rule.endpoint for rule in app.url_map.iter_rules()]
        assert [row[0] for row in self.rows(app, "--sort", "match")[1:]] == expected

    def test_all_methods(self, app):
        assert "OPTIONS" not in self.show(app).output
        assert "GET, HEAD, OPTIONS, POST" in self.show(app, "--all-methods").output

    def test_none(self):
        assert self.show(Flask("bare", static_folder=None)).output == "No routes were registered.\n"

    @pytest.mark.parametrize(
        ("options", "rule", "title"),
        [
            ({"subdomain_matching": True}, {"subdomain": "b"}, "Subdomain"),
            ({"host_matching": True}, {"host": "b"}, "Host"),
        ],
    )
    def test_domains(self, options, rule, title):
        app = Flask("domains", static_folder=None, **options)
        app.add_url_rule("/1", endpoint="one", **rule)
        app.add_url_rule("/2", endpoint="two", **{**rule, next(iter(rule)): "a"})
        header, *rows = self.rows(app, "-s", "domain")
        assert header == ["Endpoint", "Methods", title, "Rule", "Runs"]
        assert [row[0] for row in rows] == ["two", "one"]


class TestDotenv:
    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        (tmp_path / ".flaskenv").write_text("FROM=flaskenv\nONLY_FLASKENV=1\nKEPT=file\n")
        (tmp_path / ".env").write_text("FROM=env\nHAM=火腿\n", encoding="utf-8")
        (tmp_path / "mine").write_text("FROM=mine\n")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("KEPT", "environment")
        return tmp_path

    def test_precedence(self, folder):
        assert load_dotenv()
        names = ("FROM", "ONLY_FLASKENV", "HAM", "KEPT")
        assert [os.environ[name] for name in names] == ["env", "1", "火腿", "environment"]
        assert Path.cwd() == folder

    def test_a_named_file_wins(self, folder):
        assert load_dotenv("mine")
        assert os.environ["FROM"] == "mine"
        assert os.environ["ONLY_FLASKENV"] == "1"

    def test_only_a_named_file(self, folder):
        assert load_dotenv(folder / "mine", load_defaults=False)
        assert "ONLY_FLASKENV" not in os.environ
        assert not load_dotenv("not there", load_defaults=False)

    def test_not_installed(self, folder, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "dotenv", None)
        assert not load_dotenv()
        assert "FROM" not in os.environ
        assert "python-dotenv" in capsys.readouterr().err

    def test_not_installed_where_there_are_no_files(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setitem(sys.modules, "dotenv", None)
        assert not load_dotenv()
        assert capsys.readouterr().err == ""

    def test_read_anew(self, folder, monkeypatch):
        """What the program itself changed meanwhile stays its own."""
        monkeypatch.setattr(envfiles, "_read", [])  # what other tests have read
        monkeypatch.setattr(envfiles, "_taken", {})
        assert load_dotenv()
        os.environ["HAM"] = "changed"
        (folder / ".env").write_text("FROM=later\nHAM=file\n")
        envfiles.renew_environment()
        assert [os.environ[name] for name in ("FROM", "HAM", "KEPT")] == ["later", "changed", "environment"]

    def test_the_option_needs_it(self, folder, monkeypatch, runner):
        monkeypatch.setitem(sys.modules, "dotenv", None)
        result = runner.invoke(FlaskGroup(), ["--env-file", "mine", "routes"])
        assert (result.exit_code, "python-dotenv" in result.stderr) == (2, True)

    def test_the_option(self, folder, runner, app):
        group = FlaskGroup(create_app=lambda: app)
        group.command("show")(lambda: click.echo(os.environ["FROM"]))
        assert runner.invoke(group, ["-e", "mine", "show"]).output == "mine\n"

    def test_switched_off(self, folder, runner, app, monkeypatch):
        monkeypatch.setenv("FLASK_SKIP_DOTENV", "1")
        runner.invoke(FlaskGroup(create_app=lambda: app), ["routes"])
        assert "FROM" not in os.environ


class TestRunOptions:
    @staticmethod
    def parse(*arguments):
        return run_command.make_context("run", list(arguments)).params

    @classmethod
    def refuse(cls, *arguments):
        with pytest.raises(click.BadParameter) as caught:
            cls.parse(*arguments)
        return caught.value.message

    def test_defaults(self):
        params = self.parse()
        assert (params["host"], params["port"], params["reload"], params["debugger"]) == (
            "127.0.0.1",
            5000,
            None,
            None,
        )

    def test_from_the_environment(self, app, monkeypatch, runner):
        seen = {}
        monkeypatch.setattr(cli_module, "run_app", lambda app, host, port, **rest: seen.update(rest, port=port))
        monkeypatch.setenv("FLASK_RUN_PORT", "8123")
        monkeypatch.setenv("FLASK_RUN_RELOAD", "1")
        result = runner.invoke(FlaskGroup(create_app=lambda: app), ["run"])
        assert result.exit_code == 0, result.output
        assert (seen["port"], seen["use_reloader"], seen["use_debugger"]) == (8123, True, None)

    def test_threads_are_accepted(self):
        self.parse("--with-threads")
        self.parse("--without-threads")

    def test_a_certificate_needs_its_key(self):
        assert '"--key"' in self.refuse("--cert", __file__)
        assert '"--cert"' in self.refuse("--key", __file__)
        for arguments in (("--cert", __file__, "--key", __file__), ("--key", __file__, "--cert", __file__)):
            assert self.parse(*arguments)["cert"] == (__file__, __file__)

    def test_adhoc(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "cryptography", types.ModuleType("cryptography"))
        assert self.parse("--cert", "adhoc")["cert"] == "adhoc"
        assert "only with" in self.refuse("--cert", "adhoc", "--key", __file__)
        monkeypatch.setitem(sys.modules, "cryptography", None)
        assert "cryptography" in self.refuse("--cert", "adhoc")

    def test_an_imported_context(self, monkeypatch):
        module = types.ModuleType("certificates")
        module.Context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        monkeypatch.setitem(sys.modules, "certificates", module)
        assert self.parse("--cert", "certificates.Context")["cert"] is module.Context
        assert "only with" in self.refuse("--cert", "certificates.Context", "--key", __file__)
        assert "does not exist" in self.refuse("--cert", "certificates")

    def test_without_ssl(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "ssl", None)
        assert "ssl" in self.refuse("--cert", "adhoc")

    @pytest.mark.parametrize("option", ["extra_files", "exclude_patterns"])
    def test_lists_of_paths(self, option):
        value = os.pathsep.join((__file__, "*.cfg"))
        assert self.parse(f"--{option.replace('_', '-')}", value)[option] == [__file__, "*.cfg"]
