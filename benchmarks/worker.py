"""One peer's face in a process of its own: `python -m benchmarks.worker PEER FACE`.

Reads one JSON command a line from stdin and answers with one JSON line on stdout. An answer holds what was
asked for, or `without`: the reason why there is nothing.
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import resource
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from time import process_time
from typing import Any

from .drivers import BROWSER_HEADERS, DRIVERS, Request, WrongAnswer
from .peers import PEERS
from .scenarios import CYCLE_CASES, CYCLE_REQUESTS, SCENARIOS, Answer, Scenario

WARM_UP = 20
WARM_UP_SECONDS = 0.05


class Absent(Exception):
    """The peer takes no part, for the reason given."""


class Worker:
    """One application at a time: a scenario's is dropped when the next one is prepared."""

    def __init__(self, peer: str, face: str) -> None:
        self.module_name, self.face = f"benchmarks.peers.{PEERS[peer].modules[face]}", face
        self.driver: Any = None

    def prepare(self, key: str, seconds: float) -> dict[str, Any]:
        """Build, verify, warm up; answers how many requests take about `seconds`."""
        scenario = SCENARIOS[key]
        self.open(scenario.app, scenario.arguments, key)
        self.scenario, self.request = scenario, self.make_request(scenario)
        self.expected = self.verify(scenario, self.request)
        return {"count": self.choose_count(seconds)}

    def run(self, count: int) -> dict[str, Any]:
        """Seconds of the clock, seconds of the processor in all threads, how often a thread waited."""
        gc.collect()
        waited, begin = count_waits(), process_time()
        seconds = self.driver.time(self.request, count, self.expected, self.scenario.at_once)
        return {"seconds": seconds, "processor": process_time() - begin, "waits": count_waits() - waited}

    def find_cycles(self) -> dict[str, Any]:
        """For each case the unreachable objects, by type, which 1,000 requests left with gc disabled."""
        return self.look_at_cases(lambda request: collect_garbage_of(lambda: self.driver.ask(request, CYCLE_REQUESTS)))

    def find_kept(self, few: int, many: int) -> dict[str, Any]:
        """For each case the bytes that a request keeps: the growth from number `few` to number `many`."""
        return self.look_at_cases(lambda request: self.measure_kept(request, few, many))

    def look_at_cases(self, look: Callable[[Request], Any]) -> dict[str, Any]:
        logging.disable(logging.CRITICAL)
        return {"cases": {case[0]: self.look_at_case(look, *case[1:]) for case in CYCLE_CASES}}

    def open(self, factory: str, arguments: tuple[int, ...] = (), key: str = "") -> None:
        self.close()
        try:
            module = importlib.import_module(self.module_name)
        except ImportError as error:
            raise Absent(f"cannot be imported: {error.msg}") from None
        reason = getattr(module, "WITHOUT", {}).get(key)
        if reason or not hasattr(module, factory):
            raise Absent(reason or "offers no application for it")
        self.driver = DRIVERS[self.face](getattr(module, factory)(*arguments))

    def close(self) -> None:
        if self.driver is not None:
            self.driver.close()
            self.driver = None
            gc.collect()

    def make_request(self, scenario: Scenario) -> Request:
        request = Request.of(scenario)
        if scenario.carry is None:
            return request
        return Request.of(scenario, scenario.carry(self.driver.ask(request)))

    def verify(self, scenario: Scenario, request: Request) -> Answer:
        """The answer, if it is the scenario's and the same each time."""
        answer: Answer = self.driver.ask(request, WARM_UP)
        if answer.status != scenario.status:
            raise Absent(f"answers {answer.status} instead of {scenario.status}")
        if not scenario.check(answer):
            raise Absent(f"answers something else: {answer.body[:80]!r}")
        return answer

    def choose_count(self, seconds: float) -> int:
        """Doubles until a run is long enough to be judged, which warms up too; a multiple of `at_once`."""
        count = at_once = self.scenario.at_once
        spent: float = self.run(count)["seconds"]
        while spent < min(WARM_UP_SECONDS, seconds):
            count *= 2
            spent = self.run(count)["seconds"]
        spent = min(spent, *(self.run(count)["seconds"] for _ in range(2)))  # not of a moment when the machine was busy
        return max(1, round(count * seconds / spent / at_once)) * at_once

    def look_at_case(self, look: Callable[[Request], Any], factory: str, path: str, status: int) -> Any:
        try:
            self.open(factory)
        except Absent as absent:
            return str(absent)
        request = Request("GET", path, BROWSER_HEADERS, b"")
        answer = self.driver.ask(request, WARM_UP)
        if answer.status != status:
            return f"answers {answer.status}"
        return look(request)

    def measure_kept(self, request: Request, few: int, many: int) -> float:
        tracemalloc.start()
        try:
            sizes = [self.measure_memory(request, count) for count in (few, many - few)]
        finally:
            tracemalloc.stop()
        return (sizes[1] - sizes[0]) / (many - few)

    def measure_memory(self, request: Request, count: int) -> int:
        """Bytes in use after so many more requests."""
        for done in range(0, count, CYCLE_REQUESTS):
            self.driver.ask(request, min(CYCLE_REQUESTS, count - done))
        gc.collect()
        return tracemalloc.get_traced_memory()[0]


def count_waits() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw


def collect_garbage_of(action: Any) -> dict[str, int]:
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        action()
        gc.collect()
        return dict(Counter(type(item).__qualname__ for item in gc.garbage))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def answer(worker: Worker, command: dict[str, Any]) -> dict[str, Any]:
    actions: dict[str, Callable[..., dict[str, Any]]] = {
        "prepare": worker.prepare,
        "run": worker.run,
        "cycles": worker.find_cycles,
        "kept": worker.find_kept,
    }
    try:
        return actions[command.pop("do")](**command)
    except (Absent, WrongAnswer) as error:
        return {"without": str(error) or type(error).__name__}
    except Exception as error:
        logging.getLogger(__name__).exception("The peer failed.")
        return {"without": f"fails: {type(error).__name__}"}


def main() -> None:
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a framework prints is no reply
    worker = Worker(*sys.argv[1:3])
    for line in sys.stdin:
        replies.write(json.dumps(answer(worker, json.loads(line))) + "\n")
    worker.close()


if __name__ == "__main__":
    main()
