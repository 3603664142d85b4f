"""The shape of the machine and the versions of what ran on it; no host name."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from datetime import date
from importlib.metadata import PackageNotFoundError, version

from .peers import PEERS

SERVER_DISTRIBUTIONS = ("uvicorn", "uvloop", "httptools", "gunicorn")


def describe_machine() -> list[tuple[str, str]]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        ("Date", date.today().isoformat()),
        ("Machine", f"{platform.system()} {platform.machine()}, {count_cores()} cores, {memory:.0f} GiB"),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
    ]


def count_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_packages(peers: Iterable[str], with_servers: bool) -> str:
    names = [name for peer in peers for name in PEERS[peer].distributions]
    names += SERVER_DISTRIBUTIONS if with_servers else ()
    return ", ".join(f"{name} {find_version(name)}" for name in dict.fromkeys(names))


def find_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(source tree)" if name == "asyncflask" else "(absent)"
