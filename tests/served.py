"""tests/serving_site.py on a real server, and what it says from its start to its end."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

TESTS = Path(__file__).parent
BIN = Path(sys.executable).parent
sys.path.insert(0, str(TESTS / "contract"))  # the helpers for real servers

from contract_servers import APP, SERVERS, find_free_port  # noqa: E402

PATIENCE = 15
MORE_SERVERS = {
    "hypercorn-alone": SERVERS["hypercorn"].command + " --workers 0",
    "hypercorn-trio-alone": SERVERS["hypercorn-trio"].command + " --workers 0",
    "uvicorn-off": SERVERS["uvicorn-h11"].command + " --lifespan off",
    "gunicorn-two": SERVERS["gunicorn-sync"].command + " --workers 2",
    "gevent-preload": SERVERS["gunicorn-gevent"].command + " --preload",
    "gunicorn-preload": SERVERS["gunicorn-sync"].command + " --workers 2 --preload",
    "asyncflask": "asyncflask --app serving_site run --port {port}",
}


class Served:
    """`with Served(name) as site:`; environment variables as keywords."""

    def __init__(self, name: str, **environment: str) -> None:
        self.port = find_free_port()
        self.resources = ExitStack()
        self.log = tempfile.TemporaryFile()
        command = MORE_SERVERS.get(name) or SERVERS[name].command
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command.replace(APP, "serving_site:app").format(port=self.port).split()],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)]), **environment},
            start_new_session=True,
        )

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.resources.close()
        self.log.close()

    @property
    def text(self) -> str:
        return os.pread(self.log.fileno(), 1 << 20, 0).decode(errors="replace")

    def open(self, path: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        self.resources.callback(connection.close)
        connection.request("GET", path, headers={"Connection": "close"})
        return self.resources.enter_context(connection.getresponse())

    def get(self, path: str) -> str:
        """Once the server is there."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                response = self.open(path)
            except ConnectionRefusedError:
                assert self.process.poll() is None and time.monotonic() < deadline, self.text
                time.sleep(0.03)
            else:
                assert response.status == 200, self.text
                return response.read().decode()

    def end(self, number: int = signal.SIGTERM) -> int:
        """The exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"It did not end:\n{self.text}") from None

    def said_by(self, pid: str) -> list[str]:
        return [line.removeprefix(f"{pid} ") for line in self.text.splitlines() if line.startswith(f"{pid} ")]
