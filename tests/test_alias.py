"""The alias: in its process `flask` means asyncflask, for modules, metadata, commands and tests alike."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from asyncflask.alias import FLASK_VERSION, MODULES

SITE = """
from flask import Flask
import flask

app = Flask(__name__)


@app.route("/")
async def index():
    return {"module": type(app).__module__}
"""


def run_python(code: str, *options: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *options, "-c", code]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


def check(code: str, *options: str, cwd: Path | None = None) -> str:
    done = run_python(code, *options, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def asyncflask(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "asyncflask", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


class TestModules:
    @pytest.mark.parametrize("name", MODULES)
    def test_each_is_the_same_object(self, name):
        check(f"import asyncflask.as_flask, flask.{name}, asyncflask.{name}; assert flask.{name} is asyncflask.{name}")

    def test_the_package_itself(self):
        check("import asyncflask.as_flask, flask, asyncflask; assert flask is asyncflask")

    def test_to_install_it_twice_changes_nothing(self):
        check(
            "import sys, asyncflask.alias as alias; alias.install(); finders = list(sys.meta_path);"
            "alias.install(); assert sys.meta_path == finders"
        )

    def test_what_flask_keeps_in_sansio(self):
        check(
            "import asyncflask.as_flask, flask\n"
            "from flask.sansio.app import App, _make_timedelta\n"
            "from flask.sansio.blueprints import Blueprint, BlueprintSetupState\n"
            "from flask.sansio.scaffold import Scaffold, _endpoint_from_view_func, find_package, setupmethod\n"
            "assert issubclass(flask.Flask, App) and issubclass(Blueprint, Scaffold)\n"
            "assert flask.sansio.app.App is App\n"
        )

    @pytest.mark.parametrize("name", ["scaffold", "dispatch", "plan", "nonsense", "ext.sqlalchemy"])
    def test_what_flask_does_not_have_is_not_found(self, name):
        check(
            "import asyncflask.as_flask\n"
            f"try: import flask.{name}\n"
            f"except ModuleNotFoundError as error: assert error.name == 'flask.{name.partition('.')[0]}', error.name\n"
            "else: raise SystemExit('found')\n"
        )

    @pytest.mark.parametrize("name", ["scaffold", "plan", "nonsense", "json.nonsense"])
    def test_find_spec_has_none_of_what_flask_does_not_have(self, name):
        check(f"import asyncflask.as_flask; from importlib.util import find_spec; assert not find_spec('flask.{name}')")

    @pytest.mark.parametrize("name", ["flask", "flask.app", "flask.json.tag", "flask.sansio", "flask.sansio.app"])
    def test_find_spec_has_what_flask_has(self, name):
        check(f"import asyncflask.as_flask; from importlib.util import find_spec; assert find_spec({name!r})")

    def test_runpy_runs_the_command(self):
        out = check("import asyncflask.as_flask, runpy, sys; sys.argv[1:] = ['--help']; runpy.run_module('flask')")
        assert "routes" in out

    def test_a_rebound_class_is_seen_by_both_names(self):
        check(
            "import asyncflask.as_flask, flask, asyncflask\n"
            "class Traced(flask.Flask): pass\n"
            "flask.Flask = Traced\n"
            "assert asyncflask.Flask is Traced\n"
        )

    def test_filters_of_warnings_know_the_modules(self):
        code = (
            "import asyncflask.as_flask, warnings\n"
            "from flask import Flask\n"
            "warnings.filterwarnings('error')\n"
            "warnings.filterwarnings('ignore', module='flask.app')\n"
            "app = Flask('site', subdomain_matching=True)\n"
            "app.config['SERVER_NAME'] = 'example.com'\n"
            "app.test_client().get('/', base_url='http://other.org')\n"
        )
        check(code)
        assert "Current server name" in run_python(code.replace("'ignore', module", "'default', module")).stderr

    def test_the_deprecated_version(self):
        done = run_python("import asyncflask.as_flask, flask; print(flask.__version__)", "-W", "always")
        assert done.stdout.strip() == FLASK_VERSION
        assert "DeprecationWarning: '__version__'" in done.stderr

    def test_refused_where_flask_itself_was_imported(self):
        done = run_python("import flask, asyncflask.as_flask")
        assert done.returncode
        assert "RuntimeError: Flask itself was imported already, from " in done.stderr
        assert "asyncflask --as-flask" in done.stderr

    def test_nothing_is_aliased_by_an_import_of_asyncflask(self):
        check("import sys, asyncflask.alias; assert 'flask' not in sys.modules")


class TestMetadata:
    def test_version(self):
        code = "import asyncflask.as_flask, importlib.metadata as m; print(m.version('flask'), m.version('Flask'))"
        out = check(code)
        assert out.split() == [FLASK_VERSION] * 2

    def test_where_no_flask_is_installed(self, tmp_path):
        # -S leaves site-packages out; the path brings back all but Flask.
        packages = {str(Path(module.__file__).parent.parent) for module in map(__import__, ("werkzeug", "asyncflask"))}
        code = (
            f"import sys; sys.path += {sorted(packages)!r}\n"
            "import importlib.metadata as m\n"
            "class NoFlask:\n"
            "    @staticmethod\n"
            "    def find_spec(name, *rest):\n"
            "        if name == 'flask': raise ModuleNotFoundError(name)\n"
            "find = m.MetadataPathFinder.find_distributions\n"
            "m.MetadataPathFinder.find_distributions = classmethod(\n"
            "    lambda cls, context: () if (context.name or '').lower() == 'flask' else find(context))\n"
            "sys.meta_path.insert(0, NoFlask)\n"
            "try: m.version('flask')\n"
            "except m.PackageNotFoundError: pass\n"
            "else: raise SystemExit('found')\n"
            "import asyncflask.as_flask, flask\n"
            "print(m.version('flask'), m.distribution('flask').metadata['Name'], m.requires('flask'))\n"
        )
        assert check(code, "-S", cwd=tmp_path).split() == [FLASK_VERSION, "Flask", "None"]

    def test_its_files_are_ours(self):
        check(
            "import importlib.metadata as m, asyncflask.alias as alias\n"
            "alias.install()\n"
            "assert m.distribution('flask').locate_file('alias.py').samefile(alias.__file__)\n"
        )

    def test_other_distributions_stay(self):
        check(
            "import importlib.metadata as m\n"
            "before, count = m.version('werkzeug'), len({*m.packages_distributions()})\n"
            "import asyncflask.as_flask\n"
            "assert m.version('werkzeug') == before and len({*m.packages_distributions()}) == count\n"
            "assert m.packages_distributions()['flask'][0] == 'Flask'\n"
        )


class TestCommands:
    @pytest.fixture
    def site(self, tmp_path):
        (tmp_path / "app.py").write_text(SITE)
        return tmp_path

    @pytest.mark.parametrize("arguments", [("routes",), ("--app", "app", "routes"), ("--app", "app:app", "routes")])
    def test_an_application_written_for_flask(self, site, arguments):
        done = asyncflask("--as-flask", *arguments, cwd=site)
        assert done.returncode == 0, done.stderr
        assert "index     GET      /                        loop" in done.stdout

    def test_the_option_may_follow_another(self, site):
        assert asyncflask("--app", "app", "--as-flask", "routes", cwd=site).returncode == 0

    def test_without_it_the_error_names_it(self, site):
        done = asyncflask("--app", "app", "routes", cwd=site)
        assert done.returncode == 2
        assert "asyncflask --as-flask" in done.stderr

    def test_commands_of_the_application(self, site):
        body = "print(type(flask.current_app._get_current_object()).__module__)"
        command = f"@app.cli.command()\ndef where():\n    {body}\n"
        (site / "app.py").write_text(f"{SITE}\n\n{command}")
        done = asyncflask("--as-flask", "where", cwd=site)
        assert done.stdout.strip() == "asyncflask.app", done.stderr

    def test_refused_where_something_imported_flask_before(self, site):
        done = subprocess.run(
            [sys.executable, "-c", "import flask, asyncflask.cli as c; c.main()", "--as-flask", "routes"],
            cwd=site, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 1
        assert "Error: Flask itself was imported already" in done.stderr


def test_pytest_plugin(tmp_path):
    (tmp_path / "app.py").write_text(SITE)
    (tmp_path / "test_site.py").write_text(
        "from app import app\n\n\ndef test_index():\n"
        "    assert app.test_client().get('/').json['module'] == 'asyncflask.app'\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "asyncflask.as_flask", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
