"""What it costs to begin, beside Flask: import, first answer, and the memory of an application that said hello."""

from __future__ import annotations

import os
import subprocess
import sys

from .machine import describe_machine

ROUNDS = 20
MEMORY_ROUNDS = 3
PEERS = ("flask", "asyncflask")
# Best of all rounds, in seconds of the processor; each is a process of its own, and the peers take turns.
IMPORT = "import time; begin = time.process_time(); import {}; print(time.process_time() - begin)"
ANSWER = """
from {} import Flask
app = Flask("hello")
app.add_url_rule("/", view_func=lambda: "hello")
answer = app({{"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SERVER_NAME": "localhost", "SERVER_PORT": "80",
    "wsgi.url_scheme": "http", "HTTP_HOST": "localhost"}}, lambda status, headers, exc_info=None: None)
assert b"".join(answer) == b"hello"
"""
FIRST = f"import time; begin = time.process_time()\n{ANSWER}print(time.process_time() - begin)"
HELLO = f"import resource\n{ANSWER}print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"


def run(code: str) -> float:
    """With compiled modules, as an installed package has them."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout)


def measure(template: str, rounds: int) -> dict[str, float]:
    figures: dict[str, list[float]] = {peer: [] for peer in PEERS}
    for _ in range(rounds):
        for peer in PEERS:
            figures[peer].append(run(template.format(peer)))
    return {peer: min(values) for peer, values in figures.items()}


def compare(rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """For each peer: seconds of the import, and of import and first answer; KiB of memory after it."""
    return {
        "import": measure(IMPORT, rounds),
        "first": measure(FIRST, rounds),
        "memory": measure(HELLO, min(rounds, MEMORY_ROUNDS)),
    }


def main() -> None:
    found = compare()
    print(", ".join(value for _, value in describe_machine()), f"best of {ROUNDS}", sep=", ", end="\n\n")
    print("| | Flask | asyncflask | |\n|---|---|---|---|")
    for key, title in (("import", "import, ms"), ("first", "import and first answer, ms")):
        flasks, ours = (found[key][peer] * 1000 for peer in PEERS)
        print(f"| {title} | {flasks:.0f} | {ours:.0f} | {ours / flasks:.2f} |")
    flasks, ours = (found["memory"][peer] / 1024 for peer in PEERS)
    print(f"| memory after hello, MiB | {flasks:.1f} | {ours:.1f} | {ours - flasks:+.1f} MiB |")


if __name__ == "__main__":
    main()
