"""Config and ConfigAttribute: each loader does what Flask's does, with the same result or the same error."""

from __future__ import annotations

import asyncio
import json
import os
import tomllib
import types
import typing as t
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import flask
import pytest

from asyncflask import Config, Flask, request, websocket
from asyncflask.config import DEFAULT_CONFIG, KINDS, ConfigAttribute

Loading = t.Callable[[t.Any], t.Any]

CONFIG_FILE = 'DEBUG = True\nlowercase = 1\nDB_HOST = "h"\nDB_PORT = 1\n'


class Settings:
    DB_HOST = "h"
    _DB_PRIVATE = "p"
    db_lower = "l"

    @property
    def DB_URL(self) -> str:
        return f"db://{self.DB_HOST}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "config.py").write_text(CONFIG_FILE)
    (tmp_path / "latin.py").write_bytes('# -*- coding: latin-1 -*-\nNAME = "ä"\n'.encode("latin-1"))
    (tmp_path / "raises.py").write_text("raise FileNotFoundError(2, 'inner')")
    (tmp_path / "config.json").write_text(json.dumps({"DB_HOST": "j", "lower": 1}))
    (tmp_path / "config.toml").write_text('DB_HOST = "t"\n[TABLE]\nkey = 1\n')
    (tmp_path / "folder.py").mkdir()
    monkeypatch.setenv("APP_CONFIG", str(tmp_path / "config.py"))
    monkeypatch.setenv("EMPTY_CONFIG", "")
    for name, value in {"A": "1", "B": "text", "C": '{"x": [1]}', "D__k__n": "true", "C__y": "2"}.items():
        monkeypatch.setenv(f"FLASK_{name}", value)
    monkeypatch.setenv("OTHER_A", "0x10")
    return tmp_path


LOADINGS: dict[str, Loading] = {
    "pyfile": lambda c: c.from_pyfile("config.py"),
    "pyfile as a path": lambda c: c.from_pyfile(Path("config.py")),
    "pyfile encoded": lambda c: c.from_pyfile("latin.py"),
    "pyfile missing": lambda c: c.from_pyfile("missing.py"),
    "pyfile missing, silent": lambda c: c.from_pyfile("missing.py", silent=True),
    "pyfile in a file, silent": lambda c: c.from_pyfile("config.py/x.py", silent=True),
    "pyfile is a folder, silent": lambda c: c.from_pyfile("folder.py", silent=True),
    "pyfile raises, silent": lambda c: c.from_pyfile("raises.py", silent=True),
    "envvar": lambda c: c.from_envvar("APP_CONFIG"),
    "envvar unset": lambda c: c.from_envvar("NO_SUCH_CONFIG"),
    "envvar unset, silent": lambda c: c.from_envvar("NO_SUCH_CONFIG", silent=True),
    "envvar empty, silent": lambda c: c.from_envvar("EMPTY_CONFIG", silent=True),
    "prefixed": lambda c: c.from_prefixed_env(),
    "prefixed otherwise": lambda c: c.from_prefixed_env("OTHER", loads=lambda text: int(text, 16)),
    "object": lambda c: c.from_object(Settings),
    "object's properties": lambda c: c.from_object(Settings()),
    "object by name": lambda c: c.from_object("os.path"),
    "object by a wrong name": lambda c: c.from_object("no_such_module"),
    "json": lambda c: c.from_file("config.json", json.load),
    "toml": lambda c: c.from_file("config.toml", tomllib.load, text=False),
    "file read as nothing": lambda c: c.from_file("config.json", lambda file: None),
    "file missing": lambda c: c.from_file("missing.json", json.load),
    "file missing, silent": lambda c: c.from_file("missing.json", json.load, silent=True),
    "file in a file, silent": lambda c: c.from_file("config.json/x", json.load, silent=True),
    "mapping": lambda c: c.from_mapping({"A": 1, "b": 2}, C=3, d=4),
    "mapping of pairs": lambda c: c.from_mapping([("A", 1)]),
    "mapping, keywords win": lambda c: c.from_mapping({"A": 1}, A=2),
    "no mapping": lambda c: c.from_mapping(),
    "two mappings": lambda c: c.from_mapping({}, {}),
    "namespace": lambda c: c.get_namespace("DB_"),
    "namespace, upper": lambda c: c.get_namespace("DB_", lowercase=False),
    "namespace, whole": lambda c: c.get_namespace("DB_", trim_namespace=False),
    "repr": repr,
}


def observe(config: t.Any, loading: Loading) -> tuple[t.Any, ...]:
    """The result or the error, and the content afterwards."""
    try:
        outcome: t.Any = loading(config)
    except OSError as error:
        outcome = (type(error), error.errno, str(error))
    except Exception as error:
        outcome = type(error)
    return outcome, {key: value for key, value in config.items() if not isinstance(value, types.ModuleType)}


@pytest.mark.parametrize("loading", LOADINGS.values(), ids=LOADINGS.keys())
def test_loading_is_flasks(folder: Path, loading: Loading) -> None:
    defaults = {"DB_NAME": "n", "DB_USER": "u", "OTHER": 0}
    ours, theirs = Config(folder, dict(defaults)), flask.Config(folder, dict(defaults))
    assert observe(ours, loading) == observe(theirs, loading)


def test_file_errors_say_what_was_loaded(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Unable to load configuration file \(No such file.*missing"):
        Config(folder).from_pyfile("missing.py")


def test_missing_variable_is_named(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="'NO_SUCH_CONFIG' is not set"):
        Config(folder).from_envvar("NO_SUCH_CONFIG")


def test_file_knows_its_name(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("FILE = __file__\nNAME = __name__")
    config = Config(tmp_path)
    config.from_pyfile("config.py")
    assert config == {"FILE": os.fspath(tmp_path / "config.py"), "NAME": "config"}


def test_config_class_is_used_with_the_applications_root() -> None:
    class OwnConfig(Config):
        pass

    class OwnFlask(Flask):
        config_class = OwnConfig

    app = OwnFlask(__name__)
    assert isinstance(app.config, OwnConfig)
    assert app.config.root_path == app.root_path


def test_attribute_forwards_and_converts() -> None:
    class OwnFlask(Flask):
        plain = ConfigAttribute[str]("PLAIN")
        number = ConfigAttribute[int]("NUMBER", get_converter=int)

    app = OwnFlask(__name__)
    app.plain = "text"
    app.config["NUMBER"] = "12"
    assert (app.config["PLAIN"], app.plain, app.number) == ("text", "text", 12)
    assert isinstance(OwnFlask.plain, ConfigAttribute)


def test_defaults_are_flasks() -> None:
    theirs = dict(flask.Flask(__name__).config)
    ours = Flask(__name__).config
    assert {key: ours.get(key) for key in theirs} == theirs


async def echo() -> t.Any:
    await asyncio.sleep(0.001)
    return request.get_json() if request.is_json else request.get_data()


async def tell_size() -> None:
    await websocket.send(str(len(await websocket.receive())))


SIZES = {"BODY_SPOOL_SIZE", "MAX_JSON_SIZE", "WEBSOCKET_MAX_MESSAGE_SIZE"}
TIMES = {"BODY_TIMEOUT", "RESPONSE_TIMEOUT", "BACKGROUND_TASK_SHUTDOWN_TIMEOUT"}
# The clocks add a time to their floats, and the watchdog's thread waits for it.
NUMBERS = [
    *((key, number) for key in sorted(SIZES | TIMES) for number in (4500, 4500.5, Fraction(9001, 2))),
    *((key, Decimal("4500.5")) for key in sorted(SIZES)),
    ("SLOW_CALLBACK_MS", 4500),
    ("SLOW_CALLBACK_MS", 4500.5),
]
NO_TIMES = [*((key, Decimal("4.5")) for key in sorted(TIMES)), ("SLOW_CALLBACK_MS", Fraction(9, 2))]


FALSE_KINDS = {
    "WORKER_THREADS": ("40", "a whole number"),
    "WORKER_QUEUE_LIMIT": (None, "a whole number"),
    "BODY_TIMEOUT": ("60", "a number or None"),
    "BODY_SPOOL_SIZE": ("1 MiB", "a number"),
    "FOLLOW_SYMLINKS": ("false", "True or False"),
    "MAX_JSON_SIZE": (timedelta(seconds=5), "a number or None"),
    "RESPONSE_TIMEOUT": ("5", "a number or None"),
    "CANCEL_ON_DISCONNECT": ("no", "True or False"),
    "WEBSOCKET_MAX_MESSAGE_SIZE": ("9", "a number or None"),
    "BACKGROUND_TASK_SHUTDOWN_TIMEOUT": ("5", "a number"),
    "SLOW_CALLBACK_MS": ("100", "a number or None"),
}


class TestKindsOfOurOwnKeys:
    """What is of the wrong kind is named before it is used: a text would be true, or fail far from here."""

    def test_the_table_knows_all_keys(self) -> None:
        ours = DEFAULT_CONFIG.keys() - flask.Flask.default_config.keys()
        assert ours == {*KINDS, "WEBSOCKET_ORIGINS"} == {*FALSE_KINDS, "WEBSOCKET_ORIGINS"}

    @pytest.mark.parametrize("face", ["wsgi", "asgi"])
    @pytest.mark.parametrize("key", FALSE_KINDS)
    def test_a_request_names_the_key(self, key: str, face: t.Literal["wsgi", "asgi"]) -> None:
        value, kind = FALSE_KINDS[key]
        app = Flask(__name__)
        app.config.from_mapping({key: value})
        with pytest.raises(TypeError, match=rf"app\.config\['{key}'\] must be {kind}, not .*{type(value).__name__}"):
            app.test_client(face=face).post("/", data=b"body")

    @pytest.mark.parametrize("key", FALSE_KINDS)
    async def test_a_server_does_not_start(self, key: str) -> None:
        app = Flask(__name__)
        app.config[key] = FALSE_KINDS[key][0]
        with pytest.raises(TypeError, match=f"'{key}'"):
            await app.startup()

    @pytest.mark.parametrize("key", ["WORKER_THREADS", "WORKER_QUEUE_LIMIT"])
    @pytest.mark.parametrize("value", [True, 4.0, Decimal(4), float("nan")])
    async def test_threads_are_whole(self, key: str, value: object) -> None:
        app = Flask(__name__)
        app.config[key] = value
        with pytest.raises(TypeError, match=rf"app\.config\['{key}'\] must be a whole number, not "):
            await app.startup()

    @pytest.mark.parametrize(("key", "least"), [("WORKER_THREADS", 1), ("WORKER_QUEUE_LIMIT", 0)])
    async def test_threads_have_a_least_number(self, key: str, least: int) -> None:
        app = Flask(__name__)
        app.config[key] = least - 1
        with pytest.raises(ValueError, match=rf"app\.config\['{key}'\] must be at least {least}, not {least - 1}\."):
            await app.startup()
        app.config[key] = least
        await app.startup()
        await app.shutdown()

    @pytest.mark.parametrize("nan", [float("nan"), Decimal("nan")])
    @pytest.mark.parametrize("key", [key for key, (_, kind) in FALSE_KINDS.items() if "number" in kind])
    async def test_nan_is_no_number(self, key: str, nan: float | Decimal) -> None:
        app = Flask(__name__)
        app.config[key] = nan
        with pytest.raises(TypeError, match=rf"app\.config\['{key}'\] must be a .*number.*, not (nan|Decimal)"):
            await app.startup()

    @pytest.mark.parametrize(("key", "value"), NO_TIMES)
    async def test_numbers_that_would_fail_late(self, key: str, value: Fraction | Decimal) -> None:
        app = Flask(__name__)
        app.config[key] = value
        with pytest.raises(TypeError, match=rf"'{key}'\] must be a number.*, not {type(value).__name__}"):
            await app.startup()

    @pytest.mark.parametrize(("key", "number"), NUMBERS)
    async def test_all_numbers_serve(self, key: str, number: float | Fraction | Decimal) -> None:
        app = Flask(__name__)
        app.config[key] = number
        app.post("/")(echo)
        app.websocket("/")(tell_size)
        await app.startup()
        async with app.async_test_client() as client:
            assert (await client.post("/", json=[1])).json == [1]
            assert len((await client.post("/", data=bytes(5000))).data) == 5000
            async with client.websocket("/") as connection:
                await connection.send("word")
                assert await connection.receive() == "4"
        app.add_background_task(asyncio.sleep, 0.01)
        await app.shutdown()

    def test_background_tasks_name_it_too(self) -> None:
        app = Flask(__name__)
        app.config["WORKER_THREADS"] = "40"
        with pytest.raises(TypeError, match="'WORKER_THREADS'"):
            app.add_background_task(print)

    def test_what_passes(self) -> None:
        app = Flask(__name__)
        limits: dict[str, t.Any] = dict.fromkeys(
            ("BODY_TIMEOUT", "MAX_JSON_SIZE", "RESPONSE_TIMEOUT", "WEBSOCKET_MAX_MESSAGE_SIZE", "SLOW_CALLBACK_MS")
        )
        app.config.update(limits, WORKER_THREADS=2, BODY_SPOOL_SIZE=1e6, FOLLOW_SYMLINKS=0, CANCEL_ON_DISCONNECT=None)
        app.config.update(MAX_CONTENT_LENGTH="100")  # Flask's own fails as it does there
        del app.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"]
        assert app.test_client().get("/").status_code == 404
