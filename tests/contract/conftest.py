"""One `client` fixture; every case of the contract that asks for it runs on every host."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the servers import contract_app by this name, so do we

from contract_hosts import AsgiClient, Client, WsgiClient
from contract_servers import SERVERS, ServerClient, is_installed

IN_PROCESS = {"asgi": AsgiClient, "wsgi": WsgiClient}
HOSTS = (*IN_PROCESS, *SERVERS)


def chosen_hosts() -> list[str]:
    """All hosts, or those named in CONTRACT_HOSTS (comma-separated)."""
    return [name for name in os.environ.get("CONTRACT_HOSTS", "").split(",") if name] or list(HOSTS)


@pytest.fixture(scope="session", params=chosen_hosts())
def host(request: pytest.FixtureRequest) -> Iterator[Client]:
    made = make_client(request.param)
    yield made
    made.stop()


@pytest.fixture
def client(host: Client) -> Iterator[Client]:
    """Receivers in this process are there for the contract alone: with any, no application takes its short ways."""
    with ExitStack() as counting:
        if isinstance(host, tuple(IN_PROCESS.values())):
            from contract_app import COUNTED, app

            for signal, receiver in COUNTED.items():
                counting.enter_context(signal.connected_to(receiver, app))
        yield host


def make_client(name: str) -> Client:
    if name in SERVERS:
        if not is_installed(SERVERS[name]):
            pytest.skip(f"{name} is not installed")
        return ServerClient(name)
    from contract_app import COUNTED, app

    for signal, receiver in COUNTED.items():
        signal.disconnect(receiver, app)
    return IN_PROCESS[name](app)
