"""The configuration: a dict with loaders, and descriptors which forward to it."""

from __future__ import annotations

import errno
import json
import os
import typing as t
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from numbers import Integral, Real
from types import ModuleType, NoneType

from werkzeug.utils import import_string

T = t.TypeVar("T")
Path = str | os.PathLike[str]

_ABSENT = frozenset({errno.ENOENT, errno.EISDIR})


class _HasConfig(t.Protocol):
    @property
    def config(self) -> Config: ...


class ConfigAttribute(t.Generic[T]):
    """An attribute whose value lives in ``obj.config[name]``, converted when read."""

    def __init__(self, name: str, get_converter: t.Callable[[t.Any], T] | None = None) -> None:
        self.__name__ = name
        self.get_converter = get_converter

    def __set__(self, obj: _HasConfig, value: t.Any) -> None:
        obj.config[self.__name__] = value

    @t.overload
    def __get__(self, obj: None, owner: type | None = None) -> t.Self: ...

    @t.overload
    def __get__(self, obj: _HasConfig, owner: type | None = None) -> T: ...

    def __get__(self, obj: _HasConfig | None, owner: type | None = None) -> T | t.Self:
        if obj is None:
            return self
        value: T = obj.config[self.__name__]
        return value if self.get_converter is None else self.get_converter(value)


class Config(dict[str, t.Any]):
    """A dict filled from files, objects and the environment. File names are relative to `root_path`."""

    def __init__(self, root_path: Path, defaults: dict[str, t.Any] | None = None) -> None:
        super().__init__(defaults or {})
        self.root_path = root_path

    if not t.TYPE_CHECKING:  # for type checkers a missing name stays an error

        def __getattr__(self, name: str) -> t.NoReturn:
            from .gone import FROM_CONFIG, explain

            raise explain(f"{type(self).__name__!r} object", name, FROM_CONFIG)

    def from_envvar(self, variable_name: str, silent: bool = False) -> bool:
        """Load the Python file which an environment variable names."""
        filename = os.environ.get(variable_name)
        if filename:
            return self.from_pyfile(filename, silent=silent)
        if silent:
            return False
        raise RuntimeError(
            f"No configuration file is known: the environment variable {variable_name!r} is not set."
            " Point it to a configuration file."
        )

    def from_prefixed_env(self, prefix: str = "FLASK", *, loads: t.Callable[[str], t.Any] = json.loads) -> bool:
        """Take every variable ``PREFIX_KEY``; a double underscore in the key descends into a nested dict.

        A value which `loads` rejects, for whatever reason, stays a string.
        """
        start = f"{prefix}_"
        for variable in sorted(name for name in os.environ if name.startswith(start)):
            value = _load_or_keep(os.environ[variable], loads)
            self._set_nested(variable.removeprefix(start), value)
        return True

    def _set_nested(self, path: str, value: t.Any) -> None:
        *parents, key = path.split("__")
        target: dict[str, t.Any] = self
        for parent in parents:
            if parent not in target:
                target[parent] = {}
            target = target[parent]
        target[key] = value

    def from_pyfile(self, filename: Path, silent: bool = False) -> bool:
        """Run a Python file and take its uppercase names; `silent` forgives a file which is not there."""
        module = ModuleType("config")
        module.__file__ = filename = os.path.join(self.root_path, filename)
        with _explain_os_errors(_ABSENT | {errno.ENOTDIR} if silent else frozenset()):
            with open(filename, "rb") as file:
                exec(compile(file.read(), filename, "exec"), module.__dict__)
            self.from_object(module)
            return True
        return False

    def from_object(self, obj: object | str) -> None:
        """Take the uppercase attributes of an object, or of the object with that import name."""
        source = import_string(obj) if isinstance(obj, str) else obj
        for key in filter(str.isupper, dir(source)):
            self[key] = getattr(source, key)

    def from_file(
        self,
        filename: Path,
        load: t.Callable[[t.IO[t.Any]], t.Mapping[str, t.Any]],
        silent: bool = False,
        text: bool = True,
    ) -> bool:
        """Take the uppercase keys of the mapping which `load` reads from the open file."""
        filename = os.path.join(self.root_path, filename)
        with _explain_os_errors(_ABSENT if silent else frozenset()):
            with open(filename, "r" if text else "rb") as file:
                return self.from_mapping(load(file))
        return False

    def from_mapping(self, mapping: t.Mapping[str, t.Any] | None = None, **kwargs: t.Any) -> bool:
        """Take the uppercase keys of a mapping and of the keyword arguments, which win."""
        for key, value in dict(mapping or {}, **kwargs).items():
            if key.isupper():
                self[key] = value
        return True

    def get_namespace(self, namespace: str, lowercase: bool = True, trim_namespace: bool = True) -> dict[str, t.Any]:
        """The entries whose key starts with `namespace`: ``{"DB_HOST": 1} -> {"host": 1}`` for ``DB_``."""
        start = len(namespace) if trim_namespace else 0
        found = ((key[start:], value) for key, value in self.items() if key.startswith(namespace))
        return {key.lower() if lowercase else key: value for key, value in found}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {dict.__repr__(self)}>"


def _load_or_keep(text: str, loads: t.Callable[[str], t.Any]) -> t.Any:
    try:
        return loads(text)
    except Exception:
        return text


@contextmanager
def _explain_os_errors(forgiven: frozenset[int]) -> t.Iterator[None]:
    """Say what an OSError of the block means; one whose number is forgiven ends the block quietly."""
    try:
        yield
    except OSError as error:
        if error.errno in forgiven:
            return
        error.strerror = f"Unable to load configuration file ({error.strerror})"
        raise


DEFAULT_CONFIG: dict[str, t.Any] = {
    "DEBUG": None,
    "TESTING": False,
    "PROPAGATE_EXCEPTIONS": None,
    "SECRET_KEY": None,
    "SECRET_KEY_FALLBACKS": None,
    "PERMANENT_SESSION_LIFETIME": timedelta(days=31),
    "USE_X_SENDFILE": False,
    "TRUSTED_HOSTS": None,
    "SERVER_NAME": None,
    "APPLICATION_ROOT": "/",
    "SESSION_COOKIE_NAME": "session",
    "SESSION_COOKIE_DOMAIN": None,
    "SESSION_COOKIE_PATH": None,
    "SESSION_COOKIE_HTTPONLY": True,
    "SESSION_COOKIE_SECURE": False,
    "SESSION_COOKIE_PARTITIONED": False,
    "SESSION_COOKIE_SAMESITE": None,
    "SESSION_REFRESH_EACH_REQUEST": True,
    "MAX_CONTENT_LENGTH": None,
    "MAX_FORM_MEMORY_SIZE": 500_000,
    "MAX_FORM_PARTS": 1_000,
    "SEND_FILE_MAX_AGE_DEFAULT": None,
    "TRAP_BAD_REQUEST_ERRORS": None,
    "TRAP_HTTP_EXCEPTIONS": False,
    "EXPLAIN_TEMPLATE_LOADING": False,
    "PREFERRED_URL_SCHEME": "http",
    "TEMPLATES_AUTO_RELOAD": None,
    "MAX_COOKIE_SIZE": 4093,
    "PROVIDE_AUTOMATIC_OPTIONS": True,
    # Not in Flask: docs/configuration.md
    "WORKER_THREADS": 40,
    "WORKER_QUEUE_LIMIT": 1_000,
    "BODY_TIMEOUT": 60,
    "BODY_SPOOL_SIZE": 1024 * 1024,
    "FOLLOW_SYMLINKS": False,
    "MAX_JSON_SIZE": 2 * 1024 * 1024,
    "RESPONSE_TIMEOUT": None,
    "CANCEL_ON_DISCONNECT": False,
    "WEBSOCKET_ORIGINS": "any",
    "WEBSOCKET_MAX_MESSAGE_SIZE": 16 * 1024 * 1024,
    "BACKGROUND_TASK_SHUTDOWN_TIMEOUT": 5,
    "SLOW_CALLBACK_MS": None,
}

COUNT = ((Integral,), "a whole number")
SIZE = ((Real, Decimal), "a number")
SIZE_LIMIT = ((Real, Decimal, NoneType), "a number or None")
# A clock's float and a Decimal have no sum, and a thread waits for no Fraction.
TIME = ((Real,), "a number")
TIME_LIMIT = ((Real, NoneType), "a number or None")
WAIT_LIMIT = ((int, float, NoneType), "a number or None")
SWITCH = ((int, NoneType), "True or False")
# Our own keys whose text would fail late, or be true whatever it says.
KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "WORKER_THREADS": COUNT,
    "WORKER_QUEUE_LIMIT": COUNT,
    "BODY_TIMEOUT": TIME_LIMIT,
    "BODY_SPOOL_SIZE": SIZE,
    "FOLLOW_SYMLINKS": SWITCH,
    "MAX_JSON_SIZE": SIZE_LIMIT,
    "RESPONSE_TIMEOUT": TIME_LIMIT,
    "CANCEL_ON_DISCONNECT": SWITCH,
    "WEBSOCKET_MAX_MESSAGE_SIZE": SIZE_LIMIT,
    "BACKGROUND_TASK_SHUTDOWN_TIMEOUT": TIME,
    "SLOW_CALLBACK_MS": WAIT_LIMIT,
}
LEAST = {"WORKER_THREADS": 1, "WORKER_QUEUE_LIMIT": 0}


def check_kinds(config: t.Mapping[str, t.Any]) -> None:
    """Raises TypeError for a value that is none of its key's kind, ValueError for one that is too small."""
    for key, (types, kind) in KINDS.items():
        if key in config and not _is_one_of(types, config[key]):
            value = config[key]
            raise TypeError(
                f"app.config[{key!r}] must be {kind}, not {repr(value)[:40]} ({type(value).__name__})."
                " Convert it where it is set."
            )
    for key, least in LEAST.items():
        if key in config and config[key] < least:
            raise ValueError(f"app.config[{key!r}] must be at least {least}, not {config[key]}.")


def _is_one_of(types: tuple[type, ...], value: t.Any) -> bool:
    """A switch is no count, and what differs from itself, as nan does, is no number."""
    is_count = types is not COUNT[0] or not isinstance(value, bool)
    return isinstance(value, types) and is_count and bool(value == value)
