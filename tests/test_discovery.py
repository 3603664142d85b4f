"""Finding the application that a command names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from asyncflask import Flask
from asyncflask.discovery import (
    NoAppException,
    call_factory,
    find_app_by_string,
    find_best_app,
    locate_app,
    prepare_import,
)

ROOT = Path(__file__).parents[1]


def make_module(**names):
    module = ModuleType("shop")
    vars(module).update(names)
    return module


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory on sys.path whose modules are forgotten afterwards."""
    known = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path
    for name in sys.modules.keys() - known:
        del sys.modules[name]


class TestBestApp:
    @pytest.mark.parametrize("name", ["app", "application", "anything"])
    def test_finds_an_object(self, name):
        app = Flask("one")
        assert find_best_app(make_module(**{name: app})) is app

    def test_prefers_app_to_application_and_to_others(self):
        app = Flask("one")
        assert find_best_app(make_module(application=Flask("two"), other=Flask("three"), app=app)) is app

    def test_an_object_wins_over_a_factory(self):
        app = Flask("one")
        assert find_best_app(make_module(mine=app, create_app=lambda: Flask("two"))) is app

    @pytest.mark.parametrize("name", ["create_app", "make_app"])
    def test_calls_a_factory(self, name):
        assert find_best_app(make_module(**{name: lambda option=None: Flask("made")})).name == "made"

    def test_an_object_of_another_kind_is_passed_over(self):
        app = Flask("one")
        assert find_best_app(make_module(app="no app", create_app="neither", other=app)) is app

    def test_two_apps_are_one_too_many(self):
        with pytest.raises(NoAppException, match=r"2 applications.*'shop:name'"):
            find_best_app(make_module(one=Flask("one"), two=Flask("two")))

    def test_nothing_there(self):
        with pytest.raises(NoAppException, match="'shop' holds neither"):
            find_best_app(make_module(create_app=lambda: None))

    def test_a_factory_that_needs_arguments(self):
        with pytest.raises(NoAppException, match=r"'shop:create_app\(args\)'"):
            find_best_app(make_module(create_app=lambda name: Flask(name)))

    def test_the_type_error_of_a_factory_is_its_own(self):
        def create_app():
            raise TypeError("inside")

        with pytest.raises(TypeError, match="inside"):
            find_best_app(make_module(create_app=create_app))


class TestFlasksOwnApp:
    """An application of the real Flask is told by the names of its classes."""

    @pytest.fixture
    def foreign(self):
        real = type("Flask", (), {"__module__": "flask.app"})
        return type("Shop", (real,), {})()

    @pytest.mark.parametrize("name", ["app", "application", "anything"])
    def test_as_an_object(self, foreign, name):
        with pytest.raises(NoAppException, match=rf"'shop:{name}'.*'from asyncflask import Flask'"):
            find_best_app(make_module(**{name: foreign}))

    def test_from_a_factory(self, foreign):
        with pytest.raises(NoAppException, match=r"'shop:create_app\(\)'.*from asyncflask import Flask"):
            find_best_app(make_module(create_app=lambda: foreign))

    def test_by_name(self, foreign):
        with pytest.raises(NoAppException, match=r"'shop:mine'.*from asyncflask import Flask"):
            find_app_by_string(make_module(mine=foreign), "mine")

    def test_the_real_class_is_recognised(self):
        real = pytest.importorskip("flask")
        with pytest.raises(NoAppException, match="from asyncflask import Flask"):
            find_best_app(make_module(app=real.Flask("real")))

    def test_beside_one_of_ours_it_does_not_matter(self, foreign):
        app = Flask("one")
        assert find_best_app(make_module(legacy=foreign, new=app)) is app


class TestByString:
    @pytest.fixture
    def module(self):
        def create_app(name="made", *, suffix=""):
            return Flask(name + suffix)

        return make_module(shop=Flask("shop"), create_app=create_app, parts=SimpleNamespace(app=Flask("deep")))

    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("shop", "shop"),
            (" shop ", "shop"),
            ("create_app", "made"),
            ("create_app()", "made"),
            ("create_app('x', )", "x"),
            (" create_app ('x', suffix='y') ", "xy"),
        ],
    )
    def test_names_and_calls(self, module, text, name):
        assert find_app_by_string(module, text).name == name

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("create_app(", "neither a name nor the call"),
            ("1 + 1", "neither a name nor the call"),
            ("parts.app", "neither a name nor the call"),
            ("parts.make()", "simple name"),
            ("create_app(shop)", "literal values"),
            ("create_app(*shop)", "literal values"),
            ("create_app({[]: 1})", "literal values"),
            ("missing", "no attribute 'missing'"),
            ("create_app(1, 2, 3)", "does not take these arguments"),
            ("parts", "no Flask application"),
        ],
    )
    def test_what_is_refused(self, module, text, reason):
        with pytest.raises(NoAppException, match=reason):
            find_app_by_string(module, text)


def test_call_factory_tells_a_wrong_call_from_an_error_inside():
    def factory(value):
        return len(value)

    assert call_factory(factory, "wrong", "abc") == 3
    with pytest.raises(NoAppException, match="wrong"):
        call_factory(factory, "wrong")
    with pytest.raises(TypeError, match="has no len"):
        call_factory(factory, "wrong", 3)


class TestPrepareImport:
    @pytest.mark.parametrize(
        ("path", "start", "name"),
        [
            ("shop", "", "shop"),
            ("shop.py", "", "shop"),
            ("some/shop", "some", "shop"),
            ("shop/__init__.py", "", "shop"),
            ("shop.views.app", "", "shop.views.app"),
            ("package/inner/app.py", "", "package.inner.app"),
            ("package/inner/__init__", "", "package.inner"),
            ("package/inner.app", "", "package.inner.app"),
            ("package/message.txt", "", "package.message.txt"),
        ],
    )
    def test_paths_and_names(self, folder, path, start, name):
        (folder / "package" / "inner").mkdir(parents=True)
        for init in ("package/__init__.py", "package/inner/__init__.py"):
            (folder / init).touch()
        assert prepare_import(path) == name
        assert sys.path[0] == os.path.realpath(folder / start)

    def test_the_path_is_added_once(self, folder):
        prepare_import("shop.py")
        before = list(sys.path)
        prepare_import("other.py")
        assert sys.path == before


class TestLocate:
    def test_finds(self, folder):
        (folder / "shop.py").write_text("from asyncflask import Flask\nmine = Flask('mine')\n")
        assert locate_app("shop", None).name == "mine"
        assert locate_app("shop", "mine").name == "mine"

    def test_a_missing_module(self, folder):
        with pytest.raises(NoAppException, match="no module 'nowhere'"):
            locate_app("nowhere", None)
        assert locate_app("nowhere", None, raise_if_not_found=False) is None

    @pytest.mark.parametrize("strict", [True, False])
    def test_an_import_error_inside_is_told_in_full(self, folder, strict):
        (folder / "broken.py").write_text("import something_that_is_not_there\n")
        with pytest.raises(NoAppException, match=r"(?s)'broken'.*Traceback.*something_that_is_not_there"):
            locate_app("broken", None, raise_if_not_found=strict)

    def test_another_error_inside_passes(self, folder):
        (folder / "broken.py").write_text("1 / 0\n")
        with pytest.raises(ZeroDivisionError):
            locate_app("broken", None)


class TestFlaskIsNotInstalled:
    """What is written for Flask can be served without it, and the error says how."""

    @pytest.fixture(autouse=True)
    def without_flask(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "flask", None)

    @pytest.mark.parametrize("text", ["import flask", "from flask import Flask", "import extension_of_flask"])
    def test_an_import(self, folder, text):
        (folder / "extension_of_flask.py").write_text("from flask import current_app")
        (folder / "shop.py").write_text(text)
        with pytest.raises(NoAppException, match="'asyncflask --as-flask …'"):
            locate_app("shop", None)

    def test_an_import_in_a_factory(self, folder):
        (folder / "shop.py").write_text("def create_app():\n    import flask")
        with pytest.raises(ModuleNotFoundError) as info:
            locate_app("shop", None)
        assert "--as-flask" in info.value.__notes__[0]

    def test_a_name_that_flask_has_not(self, folder, monkeypatch):
        """What imported it knows a Flask: it is not the module that is missing."""
        monkeypatch.setitem(sys.modules, "flask", ModuleType("flask"))
        (folder / "shop.py").write_text("from flask import no_such_name")
        with pytest.raises(NoAppException, match="no_such_name") as info:
            locate_app("shop", None)
        assert "--as-flask" not in info.value.format_message()

    def test_another_module(self, folder):
        (folder / "shop.py").write_text("import flask_of_nobody")
        with pytest.raises(NoAppException) as info:
            locate_app("shop", None)
        assert "--as-flask" not in info.value.format_message()


def test_importing_the_package_brings_neither_click_nor_a_server():
    code = "import sys, asyncflask; print([n for n in ('click', 'uvicorn', 'asyncflask.testing') if n in sys.modules])"
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=30)
    assert printed.stdout.strip() == "[]", printed.stderr
