"""`asyncflask run --workers N`: uvicorn's supervisor over N processes, each of which loads the application anew."""

from __future__ import annotations

import os
import sys
import typing as t

import click

from .commands import ScriptInfo
from .listening import check_address

if t.TYPE_CHECKING:
    from .app import Flask

# Tells the workers, which do not see the command's options, what they said.
APP_VARIABLE = "FLASK_APP"
ALIAS_VARIABLE = "ASYNCFLASK_AS_FLASK"


def run_workers(info: ScriptInfo, count: int, host: str, port: int, cert: t.Any) -> None:
    """Serve until Ctrl-C or SIGTERM; a worker that dies is replaced. UsageError for what a worker cannot be told."""
    if info.create_app is not None:
        raise click.UsageError('"--workers" needs an application that can be imported: "--app module:name".')
    if cert is not None and not isinstance(cert, tuple):
        raise click.UsageError('"--workers" needs a certificate in files: "--cert" and "--key".')
    if host.startswith("unix://"):
        raise click.UsageError('"--workers" needs a host and a port, not a socket in a file.')
    check_address(host, port)  # uvicorn, which binds it, has its own words for it
    if info.app_import_path:
        os.environ[APP_VARIABLE] = info.app_import_path
    if sys.modules.get("flask") is sys.modules[str(__package__)]:
        os.environ[ALIAS_VARIABLE] = "1"

    import uvicorn

    from .devserver import UVICORN_DEFAULTS

    certfile, keyfile = cert or (None, None)
    files = {"ssl_certfile": certfile, "ssl_keyfile": keyfile}
    app = f"{__name__}:{load_app.__name__}"
    uvicorn.run(app, factory=True, host=host, port=port, workers=count, **{**UVICORN_DEFAULTS, **files})


def load_app() -> Flask:
    """In a worker."""
    if os.environ.get(ALIAS_VARIABLE):
        from .alias import install

        install()
    return ScriptInfo(os.environ.get(APP_VARIABLE)).load_app()
