"""The house: module-level imports point down one ordered list, files stay short, `import asyncflask` stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "asyncflask"
LONGEST = 600

# Each module may import, at module level, only from those before it.
FLOORS = (
    # ground
    *("typing", "gone", "globals", "hints", "signals", "config", "overrides", "alias", "hooks"),
    *("workers", "trio_loop", "bridge", "waiting", "utils", "steps", "runner"),
    # messages
    *("json.provider", "json", "json.tag", "shortage", "body", "forms", "multipart", "watching"),
    *("environ", "forgiving", "wrappers", "extensions"),
    *("websockets", "asgi_connection", "wrapped", "debughelpers", "responding"),
    # services
    *("logging", "paths", "streaming", "sse", "files", "flashing", "urls", "helpers", "signing", "cookies"),
    *("sessions", "templating"),
    *("routing", "stored_sessions", "redis_store", "sqlite_store"),
    # registration
    *("scaffold", "blueprints", "views", "errors"),
    # execution
    *("plan", "ctx", "dispatch", "watchdog", "mounting", "native"),
    # edges
    *("asgi_websocket", "shutdown", "background", "stats", "lifespan", "deadlines", "exchange", "guarding", "asgi"),
    "wsgi",
    # application
    *("app", "__init__"),
    # tools
    *("discovery", "envfiles", "commands", "listening", "devserver", "reloading", "debugger", "serving", "processes"),
    *("transport", "mounted_call", "testing", "connections", "async_testing", "pytest_plugin", "shell", "cli"),
    *("__main__", "as_flask"),
)
FILES = {
    "__init__" if path.parent == PACKAGE and path.stem == "__init__" else
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}  # fmt: skip
# To import them is to run a command, or to install the alias.
ACTING = ("__main__", "as_flask")
# What only those pay for who use it.
LAZY = ("asyncio", "click", "anyio", "uvicorn", "dotenv", "h11", "wsproto", "importlib.metadata")


def is_for_checkers(node: ast.If) -> bool:
    return ast.unparse(node.test) in ("t.TYPE_CHECKING", "typing.TYPE_CHECKING", "TYPE_CHECKING")


def imports_at_module_level(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """All that are executed by an import of the module: not in functions, not for type checkers alone."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and is_for_checkers(node):
            yield from imports_at_module_level(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for name in ("body", "orelse", "finalbody"):
                yield from imports_at_module_level(getattr(node, name, []))
            for handler in getattr(node, "handlers", []):
                yield from imports_at_module_level(handler.body)


def own_imports(module: str) -> set[str]:
    path = FILES[module]
    package = module.split(".") if path.stem == "__init__" and module != "__init__" else module.split(".")[:-1]
    found = set()
    for node in imports_at_module_level(ast.parse(path.read_text("utf-8")).body):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + ([node.module] if node.module else [])
            for alias in node.names:
                submodule = ".".join([*base, alias.name])
                found.add(submodule if submodule in FILES else ".".join(base) or "__init__")
        else:
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert not any(name.split(".")[0] == "asyncflask" for name in names), f"{module} imports itself absolutely"
    return found - {module}


def test_list_of_modules_is_complete() -> None:
    assert len(set(FLOORS)) == len(FLOORS)
    assert set(FLOORS) == set(FILES)


@pytest.mark.parametrize("module", FLOORS)
def test_imports_point_down(module: str) -> None:
    below = set(FLOORS[: FLOORS.index(module)])
    assert own_imports(module) <= below, f"{module} imports what stands above it"


@pytest.mark.parametrize("module", FLOORS)
def test_file_is_short(module: str) -> None:
    assert len(FILES[module].read_text("utf-8").splitlines()) <= LONGEST


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_light() -> None:
    tools = FLOORS[FLOORS.index("discovery") :]
    unwanted = (*LAZY, "flask", "quart", *(f"asyncflask.{name}" for name in (*tools, "asgi", "wsgi", "runner")))
    loaded = run_python(f"import sys, asyncflask; print([n for n in {unwanted!r} if n in sys.modules])")
    assert loaded.strip() == "[]"


def test_sync_application_over_wsgi_needs_no_asyncio() -> None:
    code = """
import sys
from asyncflask import Flask, request, session
app = Flask("app", static_folder=None, root_path=".", instance_path="/nowhere")
app.secret_key = "key"
@app.before_request
def count(): session["count"] = 1
@app.route("/<int:number>", methods=["POST"])
def view(number): return {"number": number, "form": request.form}
import io
environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/7", "SERVER_NAME": "x", "SERVER_PORT": "80", "CONTENT_LENGTH": "3",
    "CONTENT_TYPE": "application/x-www-form-urlencoded", "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(b"a=b")}
print(b"".join(app(environ, lambda *start: None)), [n for n in %r if n in sys.modules])
"""
    answer, _, loaded = run_python(code % (("asyncio", "click", "anyio", "uvicorn"),)).partition("' ")
    assert '"number":7' in answer
    assert loaded.strip() == "[]"


@pytest.mark.parametrize("module", FLOORS)
def test_module_imports_alone(module: str) -> None:
    """No cycle hides behind a lucky order: each module can be the first. (The package's own __init__ is stubbed.)"""
    name = "asyncflask" if module == "__init__" else f"asyncflask.{module}"
    if module in ACTING:
        pytest.skip("it acts when imported")
    # In one process per module this would take long: the import system is reset in between.
    assert name in MODULES_THAT_IMPORT_ALONE()


def MODULES_THAT_IMPORT_ALONE() -> list[str]:
    global _alone
    if not _alone:
        names = ["asyncflask" if name == "__init__" else f"asyncflask.{name}" for name in FLOORS if name not in ACTING]
        _alone = run_python(_IMPORT_EACH % (names, str(PACKAGE))).split()
    return _alone


_alone: list[str] = []
_IMPORT_EACH = """
import sys, types, importlib
names, package = %r, %r
for name in names:
    for loaded in [n for n in sys.modules if n == "asyncflask" or n.startswith("asyncflask.")]:
        del sys.modules[loaded]
    if name != "asyncflask":
        stub = sys.modules["asyncflask"] = types.ModuleType("asyncflask")
        stub.__path__ = [package]
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(name, error, file=sys.stderr)
    else:
        print(name)
"""
