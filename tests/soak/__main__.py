"""Run the parts one after another and print what they found; the exit code is 1 if something failed."""

from __future__ import annotations

import argparse
import signal
import sys
import time
import typing as t
from pathlib import Path

from . import crowd, ending, mix, threads
from .findings import Findings
from .servers import is_there

OTHERS = ("hypercorn", "granian-asgi", "gunicorn-asgi", "gunicorn-sync", "gunicorn-gthread")


def soak_mix(quick: bool, requests: int) -> t.Iterator[Findings]:
    yield mix.soak(mix.QUICK if quick else mix.FULL._replace(requests=requests))


def soak_others(quick: bool, requests: int) -> t.Iterator[Findings]:
    if not quick:
        yield mix.soak(mix.OTHERS, filter(is_there, OTHERS))


def soak_crowd(quick: bool, requests: int) -> t.Iterator[Findings]:
    yield crowd.soak(crowd.QUICK if quick else crowd.FULL)


def soak_threads(quick: bool, requests: int) -> t.Iterator[Findings]:
    yield threads.soak(threads.QUICK if quick else threads.FULL)


def soak_ending(quick: bool, requests: int) -> t.Iterator[Findings]:
    yield ending.soak(ending.QUICK if quick else ending.FULL)


PARTS = {"mix": soak_mix, "others": soak_others, "crowd": soak_crowd, "threads": soak_threads, "ending": soak_ending}


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.soak", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds of each part")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--requests", type=int, default=mix.FULL.requests, help="of the mix")
    parser.add_argument("--output", type=Path, help="a file for the tables, in Markdown")
    return parser.parse_args()


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the servers are ended on the way out
    arguments = read_arguments()
    text: list[str] = []
    failures: list[str] = []
    for name in arguments.only:
        begun = time.monotonic()
        for found in PARTS[name](arguments.quick, arguments.requests):
            print("\n".join(found.lines()), *found.failures, sep="\n", flush=True)
            text += found.lines()
            failures += found.failures
        print(f"{name}: {time.monotonic() - begun:.0f} s\n", flush=True)
    if arguments.output:
        arguments.output.write_text("\n".join(text), "utf-8")
    print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
