"""The soaked application on a real server: what its process holds, what it logged, how it ended."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import typing as t
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "contract"))  # the helpers for real servers

from contract_servers import APP, ENVIRONMENT, SERVERS, find_free_port, is_installed  # noqa: E402

PATIENCE = 30
THREADS = 40  # WORKER_THREADS
UVICORN = "uvicorn-httptools"
OPTIONS = {UVICORN: "--no-access-log --backlog 4096"}
PATIENT = "--timeout-keep-alive 60"  # uvicorn's: else it closes a connection that was silent for 5 seconds
EXPECTED = re.compile(
    r"^\[[^\n]*\] ERROR in app: Exception on /boom/\w+ \[GET\]\nTraceback.*?^soak_site\.Boom: expected\n", re.S | re.M
)


class Figures(t.NamedTuple):
    """Of the process that serves."""

    memory: int  # bytes, resident
    descriptors: int
    threads: int
    blocks: int  # that Python has allocated


class SoakServer:
    """`with SoakServer(name) as server:`; environment variables as keywords."""

    def __init__(self, name: str = UVICORN, app: str = "app", options: str = "", **environment: str) -> None:
        self.name = name
        self.port = find_free_port()
        self.origin = f"http://127.0.0.1:{self.port}"
        self.log = tempfile.TemporaryFile()
        command = SERVERS[name].command.replace(APP, f"soak_site:{app}").format(port=self.port)
        path = os.pathsep.join([str(HERE), ENVIRONMENT["PYTHONPATH"]])
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command.split(), *OPTIONS.get(name, "").split(), *options.split()],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            cwd=tempfile.gettempdir(),
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": path, **environment},
            start_new_session=True,
        )

    def __enter__(self) -> SoakServer:
        try:
            self.wait_until(self.answers)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()

    def answers(self) -> bool:
        assert self.process.poll() is None, self.read_log()
        try:
            return self.open("/async")[0] == 200
        except OSError:
            return False

    def open(self, path: str, **headers: str) -> tuple[int, t.Any, bytes]:
        """Status, headers, body."""
        request = urllib.request.Request(self.origin + path, headers=headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.headers, answer.read()

    def fill_threads(self) -> None:
        """All worker threads are there before the first figures."""
        with ThreadPoolExecutor(THREADS) as pool:
            for status, *_ in pool.map(self.open, ["/sleep/sync/0.2"] * THREADS):
                assert status == 200

    def stats(self) -> dict[str, t.Any]:
        """`app.stats()` after a collection, and the process's id."""
        stats: dict[str, t.Any] = json.loads(self.open("/settle")[2])
        return stats

    def measure(self, settle: float = 0) -> Figures:
        """So many seconds later, when the connections are closed and all requests over; else AssertionError."""
        seen: list[Figures] = []
        stats: dict[str, t.Any] = {}
        time.sleep(settle)

        def is_quiet() -> bool:
            stats.update(self.stats())
            time.sleep(0.05)
            seen.append(read_figures(stats["pid"], stats["blocks"]))
            is_settled: bool = len(seen) > 3 and len({figures.descriptors for figures in seen[-3:]}) == 1
            return is_settled and [stats[name] for name in ("requests", "queued")] == [1, 0]

        self.wait_until(is_quiet, stats)
        return seen[-1]

    def wait_until(self, condition: t.Callable[[], bool], what: object = "") -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, (self.name, what, self.read_log()[-4000:])
            time.sleep(0.05)

    def read_log(self) -> str:
        # The server writes at the same file offset: reading must not move it.
        size = os.fstat(self.log.fileno()).st_size
        return os.pread(self.log.fileno(), size, 0).decode(errors="replace")

    def read_unexpected(self) -> tuple[str, int]:
        """What it logged besides the errors that were asked for; and how many those are."""
        return EXPECTED.subn("", self.read_log())


def read_figures(pid: int, blocks: int) -> Figures:
    folder = Path(f"/proc/{pid}")
    pages = int((folder / "statm").read_text("ascii").split()[1])
    descriptors, threads = (sum(1 for _ in (folder / name).iterdir()) for name in ("fd", "task"))
    return Figures(pages * resource.getpagesize(), descriptors, threads, blocks)


def allow_descriptors(count: int) -> None:
    """For this process and the servers that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))


def is_there(name: str) -> bool:
    return bool(is_installed(SERVERS[name]))
