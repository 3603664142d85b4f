"""What it costs to begin: the import, beside Flask's, and the memory of an application that said hello."""

from __future__ import annotations

import subprocess
import sys
import typing as t

from .machine import describe_machine

ROUNDS = 20
PEERS = ("flask", "asyncflask")
# Best of all rounds; each is a process of its own, and the peers take turns.
IMPORT = "import time; begin = time.perf_counter(); import {}; print(time.perf_counter() - begin)"
HELLO = """
import resource
from {} import Flask
app = Flask("hello")
app.add_url_rule("/", view_func=lambda: "hello")
answer = app({{"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SERVER_NAME": "localhost", "SERVER_PORT": "80",
    "wsgi.url_scheme": "http", "HTTP_HOST": "localhost"}}, lambda status, headers, exc_info=None: None)
assert b"".join(answer) == b"hello"
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def run(code: str) -> float:
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def measure(template: str, rounds: int) -> dict[str, float]:
    figures: dict[str, list[float]] = {peer: [] for peer in PEERS}
    for _ in range(rounds):
        for peer in PEERS:
            figures[peer].append(run(template.format(peer)))
    return {peer: min(values) for peer, values in figures.items()}


def compare(rounds: int = ROUNDS) -> dict[str, t.Any]:
    """Seconds of the import, KiB of memory, for each peer."""
    return {"import": measure(IMPORT, rounds), "memory": measure(HELLO, 3)}


def main() -> None:
    found = compare()
    seconds, memory = found["import"], found["memory"]
    print(", ".join(value for _, value in describe_machine()), f"best of {ROUNDS}", sep=", ", end="\n\n")
    print("| | Flask | asyncflask | |\n|---|---|---|---|")
    ratio = seconds["asyncflask"] / seconds["flask"]
    print(f"| import, ms | {seconds['flask'] * 1000:.0f} | {seconds['asyncflask'] * 1000:.0f} | {ratio:.2f} |")
    more = (memory["asyncflask"] - memory["flask"]) / 1024
    flasks, ours = memory["flask"] / 1024, memory["asyncflask"] / 1024
    print(f"| memory after hello, MiB | {flasks:.1f} | {ours:.1f} | {more:+.1f} MiB |")


if __name__ == "__main__":
    main()
