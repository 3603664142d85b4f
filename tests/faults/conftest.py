"""One server of each kind for the whole session: `server` runs a test on all that its module or mark names."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # the helpers of all tests
sys.path.insert(0, str(Path(__file__).parent.parent / "contract"))

from fault_servers import ALL, ASGI, WSGI, FaultServer, require


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[str, FaultServer]]:
    started: dict[str, FaultServer] = {}
    yield started
    with ThreadPoolExecutor(8) as pool:  # some take their time
        list(pool.map(FaultServer.stop, started.values()))


def get_server(servers: dict[str, FaultServer], name: str) -> FaultServer:
    """Started by the first test that asks for it."""
    require(name)
    if name not in servers:
        servers[name] = FaultServer(name)
    return servers[name]


@pytest.fixture(params=ALL)
def server(request: pytest.FixtureRequest, servers: dict[str, FaultServer]) -> FaultServer:
    return get_server(servers, request.param)


@pytest.fixture(params=ASGI)
def asgi_server(request: pytest.FixtureRequest, servers: dict[str, FaultServer]) -> FaultServer:
    return get_server(servers, request.param)


@pytest.fixture(params=WSGI)
def wsgi_server(request: pytest.FixtureRequest, servers: dict[str, FaultServer]) -> FaultServer:
    return get_server(servers, request.param)
