"""A process of clients that send the mix: `-m tests.soak.load PORT COUNT CONNECTIONS SEED SECONDS COOKIE PAGE`.

Prints a line of JSON at its end.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from contextlib import suppress

from .cases import AMID_ANSWER, SOON, Case, make_mix
from .lines import Cut, Line, run

MOST_WRONG = 5


class Tally:
    """What is to be sent, and what became of it."""

    def __init__(self, count: int, seed: int, cases: list[Case]) -> None:
        self.left_to_ask = count
        self.cases = cases
        self.weights = [case.weight for case in cases]
        self.random = random.Random(seed)
        self.drawn: list[Case] = []
        self.sent: Counter[str] = Counter()
        self.answered = self.left = 0
        self.wrong: list[str] = []

    def draw(self) -> Case | None:
        """The next request; None: enough were sent."""
        if not self.left_to_ask or len(self.wrong) >= MOST_WRONG:
            return None
        if not self.drawn:
            self.drawn = self.random.choices(self.cases, self.weights, k=1000)
        self.left_to_ask -= 1
        case = self.drawn.pop()
        self.sent[case.name] += 1
        return case

    def dump(self) -> str:
        return json.dumps({"sent": self.sent, "answered": self.answered, "left": self.left, "wrong": self.wrong})


async def send_mix(port: int, tally: Tally) -> None:
    """One client, which opens a new connection when it, or the server, has closed its last."""
    line: Line | None = None
    while case := tally.draw():
        if line is None or not line.is_open:
            line = await Line.open(port)
        if case.leaves:
            await leave(line, case, reset=tally.random.random() < 0.5)
            tally.left += 1
        else:
            await ask(line, case, tally)
    if line is not None and line.is_open:
        line.leave()


async def ask(line: Line, case: Case, tally: Tally) -> None:
    try:
        answer = await line.ask(case.request)
    except Cut as cut:
        tally.wrong.append(f"{case.name}: the connection ended after {cut.data[-200:]!r}")
        return
    if answer.status == case.status and case.body in (None, answer.body):
        tally.answered += 1
    else:
        tally.wrong.append(f"{case.name}: {answer.status} {answer.body[-200:]!r}")


async def leave(line: Line, case: Case, reset: bool) -> None:
    if case.leaves == AMID_ANSWER:
        with suppress(Cut):
            await line.begin(case.request)
    else:
        line.transport.write(case.request)
        if case.leaves == SOON:
            await asyncio.sleep(0.003)
    line.leave(reset)


async def send_all(port: int, connections: int, seconds: float, tally: Tally) -> None:
    try:
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(send_mix(port, tally))
    except TimeoutError:
        tally.wrong.append(f"not done after {seconds} s")


def main() -> None:
    port, count, connections, seed, seconds, cookie, page = sys.argv[1:]
    tally = Tally(int(count), int(seed), make_mix(cookie, page.encode()))
    run(send_all(int(port), int(connections), float(seconds), tally))
    print(tally.dump())


if __name__ == "__main__":
    main()
