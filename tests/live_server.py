"""The live example on a server, at one port for all of its lives, and visitors who talk there without a browser."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "examples" / "live" / "README.md"
PATIENCE = 15  # seconds
UVICORN = "uvicorn examples.live.app:app"


class LiveServer:
    """Runs the command from `start` to `stop`; it takes its port from the environment."""

    def __init__(self, folder: Path, command: str = UVICORN, ready: str = "/", **environment: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        self.ready = self.origin + ready
        self.log = folder / "server.log"
        self.command = f"exec env {command}"
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "REDIS_URL"},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
            "FLASK_RUN_PORT": str(self.port),
            "UVICORN_PORT": str(self.port),
            "LIVE_INSTANCE_PATH": str(folder / "instance"),
            "LIVE_BEAT_SECONDS": "0.2",
            **environment,
        }

    def start(self) -> None:
        with self.log.open("ab") as log:
            process = self.process = subprocess.Popen(
                ["sh", "-c", self.command],
                cwd=ROOT, env=self.environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_for(lambda: self._answers(process), self.log.read_text)

    def stop(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(PATIENCE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(self.ready, timeout=5) as answer:
                return b"Parlour" in answer.read()
        except OSError:
            return False


class Visitor:
    """Somebody with a name, who opens websockets."""

    def __init__(self, origin: str, name: str) -> None:
        self.origin = origin
        cookies = CookieJar()
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
        form = urllib.parse.urlencode({"name": name, "room": "lobby"}).encode()
        opener.open(origin + "/", form, timeout=PATIENCE).close()
        self.cookie = "; ".join(f"{cookie.name}={cookie.value}" for cookie in cookies)

    def go_in(self) -> Seat:
        from websockets.sync.client import connect

        url = f"{self.origin.replace('http', 'ws', 1)}/room/lobby/socket"
        return Seat(connect(url, additional_headers={"Cookie": self.cookie}, proxy=None))


class Seat:
    """A place in the lobby."""

    def __init__(self, socket: Any) -> None:
        self._open = ExitStack()
        self.socket = self._open.enter_context(socket)
        self.welcome = self.hear("welcome")
        self.worker: int = self.welcome["worker"]

    def say(self, text: str, id: str) -> None:
        self.socket.send(json.dumps({"type": "say", "id": id, "text": text}))

    def hear(self, type: str, **fields: Any) -> dict[str, Any]:
        """The next event of this type and with these fields; those before it are passed over."""
        end = time.monotonic() + PATIENCE
        passed: list[str] = []
        while (left := end - time.monotonic()) > 0:
            event: dict[str, Any] = json.loads(self.socket.recv(left))
            if event["type"] == type and event.items() >= fields.items():
                return event
            passed.append(event["type"])
        raise AssertionError(f"no {type!r} with {fields} among {passed}")

    def leave(self) -> None:
        self._open.close()


def require(module: str) -> None:
    """Skips the test where the package is missing; in CI that is an error."""
    if importlib.util.find_spec(module) is None:
        assert not os.environ.get("CI"), f"{module} is missing"
        pytest.skip(f"{module} is not installed")


def wait_for(condition: Callable[[], object], explain: Callable[[], str] = str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, explain()
        time.sleep(0.02)


def read_commands() -> list[str]:
    """Those in the example's README, without their comments."""
    lines = README.read_text("utf-8").splitlines()
    return [line.partition("  #")[0].strip() for line in lines if line.startswith("    ")]
