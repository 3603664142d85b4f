"""Real Flask, by its own server and by gunicorn, and three ways to asyncflask: processes to be asked over sockets."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from http.cookies import SimpleCookie
from pathlib import Path

import h11
from contract_message import Answer, Question, make_question
from contract_servers import APP, ENVIRONMENT, GUNICORN, UVICORN, ServerClient, find_free_port
from contract_wire import Closed
from same.questions import Step

HERE = Path(__file__).parent
REFERENCE = "flask run"
ON_GUNICORN = "flask on gunicorn"
SERVED = "import asyncflask.as_flask\nfrom {site} import app\n"
RUN = "--app {site} run --host 127.0.0.1 --port {port}"
# gunicorn and uvicorn believe a proxy on this machine by themselves; `flask run` leaves that to the application.
ON_UVICORN = f"{UVICORN} --no-proxy-headers"
IN_GUNICORN = f"{GUNICORN} --forwarded-allow-ips 192.0.2.1"
# Command lines after `python -m`.
COMMANDS = {
    REFERENCE: f"flask {RUN}",
    ON_GUNICORN: IN_GUNICORN.replace(APP, "{site}:app"),
    "asyncflask run": f"asyncflask --as-flask {RUN}",
    "uvicorn": ON_UVICORN.replace(APP, "served_{site}:app"),
    "gunicorn": IN_GUNICORN.replace(APP, "served_{site}:app"),
}
PREFIX = "/pre"
# Below a path. gunicorn is told by SCRIPT_NAME and takes the prefix off; uvicorn expects a proxy to have done that.
MOUNTED = {
    ON_GUNICORN: COMMANDS[ON_GUNICORN],
    "gunicorn": COMMANDS["gunicorn"],
    "uvicorn": f"{COMMANDS['uvicorn']} --root-path {PREFIX}",
}
REPEATS = 500
CUT = Answer(0, [], b"")  # the connection ended before the answer did


class SiteServer(ServerClient):
    """One server of one site in `folder`, in a process of its own."""

    def __init__(self, name: str, command: str, folder: Path, mounted: bool) -> None:
        self.name = name
        self.mounted = mounted
        self.folder = folder
        self.port = find_free_port()
        self.log = tempfile.TemporaryFile()
        self.seen = 0
        self.process = self.start(command.format(port=self.port))

    def start(self, command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", *command.split()],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=self.make_environment(),
            start_new_session=True,
        )

    def make_environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("FLASK_", "WERKZEUG_"))}
        path = os.pathsep.join([str(self.folder), *filter(None, sys.path)])
        # One seed, since the order of sets is by hash, in Allow for one.
        mount = {"SCRIPT_NAME": PREFIX} if self.mounted else {}
        return {**clean, **ENVIRONMENT, **mount, "PYTHONPATH": path, "PYTHONHASHSEED": "0"}

    def is_ready(self) -> bool:
        with suppress(OSError, Closed):
            return self.get("/identity").status == 200
        return False

    def ask(self, question: Question) -> Answer:
        if self.mounted and self.name != "uvicorn":
            question = question._replace(target=PREFIX + question.target)
        try:
            return super().ask(question)
        except (h11.RemoteProtocolError, Closed):
            return CUT

    def play(self, steps: Sequence[Step]) -> list[Answer]:
        """One visitor: each step's answer, its cookies sent with the next."""
        jar: dict[str, str] = {}
        answers = []
        for step in steps:
            cookies = [("Cookie", "; ".join(f"{name}={value}" for name, value in jar.items()))] if jar else []
            question = make_question(step.method, step.target, [*step.headers, *cookies], step.body, step.chunked)
            answers.append(self.ask_until(question, step.until))
            keep_cookies(jar, answers[-1])
        return answers

    def ask_until(self, question: Question, expected: bytes) -> Answer:
        for _ in range(REPEATS):
            answer = self.ask(question)
            if expected in answer.body:
                break
            time.sleep(0.01)
        return answer

    def read_exceptions(self) -> Counter[str]:
        """What the application logged of errors that no handler took."""
        return Counter(re.findall(r"ERROR in app: (Exception on .*)", self.read_log()))

    def discard(self) -> None:
        if self.process.returncode is None:
            self.end()
        self.log.close()

    def play_all(self, cases: Mapping[str, Sequence[Step]]) -> dict[str, list[Answer]]:
        return {name: self.play(steps) for name, steps in cases.items()}


def keep_cookies(jar: dict[str, str], answer: Answer) -> None:
    for line in answer.all("Set-Cookie"):
        for name, morsel in SimpleCookie(line.encode("latin-1").decode(errors="replace")).items():
            if morsel["max-age"] == "0":
                jar.pop(name, None)
            else:
                jar[name] = morsel.coded_value


@contextmanager
def serve_everywhere(site: str, folder: Path, mounted: bool = False) -> Iterator[dict[str, SiteServer]]:
    """All servers of `site` at once; each must end well and without an alarm in its log."""
    make_folder(site, folder)
    with ExitStack() as stack:
        servers = {}
        for name, command in (MOUNTED if mounted else COMMANDS).items():
            servers[name] = SiteServer(name, command.replace("{site}", site), folder, mounted)
            stack.callback(servers[name].discard)
        for server in servers.values():
            server.wait_until_ready()
        yield servers
        with ThreadPoolExecutor(len(servers)) as threads:
            list(threads.map(SiteServer.stop, servers.values()))


def make_folder(site: str, folder: Path) -> None:
    """The site's file as it is, what belongs to it, and the two lines for servers that import an application."""
    shutil.copytree(HERE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name, size in {"empty.txt": 0, "one.bin": 1, "middle.bin": 70_000, "big.bin": (1 << 20) + 4321}.items():
        (folder / "static" / name).write_bytes((bytes(range(256)) * (size // 256 + 1))[:size])
    (folder / f"served_{site}.py").write_text(SERVED.format(site=site))


def play_everywhere(
    servers: Mapping[str, SiteServer], cases: Mapping[str, Sequence[Step]]
) -> dict[str, dict[str, list[Answer]]]:
    with ThreadPoolExecutor(len(servers)) as threads:
        return dict(zip(servers, threads.map(lambda server: server.play_all(cases), servers.values()), strict=True))
