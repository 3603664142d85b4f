"""The benchmark harness works: a tiny run, and what it must refuse."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import drivers, report, rounds, scenarios, sockets
from benchmarks.peers import PEERS, raw

ROOT = Path(__file__).parent.parent


def make_request(key: str) -> drivers.Request:
    return drivers.Request.of(scenarios.SCENARIOS[key])


def test_quick_run_writes_results(tmp_path: Path) -> None:
    pytest.importorskip("flask")
    options = [
        "--quick",
        "--rounds=1",
        "--only",
        "json-async",
        "json-wsgi",
        "page-wsgi",
        "--peers",
        "raw",
        "flask",
    ]
    command = [sys.executable, "-m", "benchmarks", *options, f"--output={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "results.md").read_text()
    assert "### ASGI: microseconds per request" in text
    assert "### WSGI: microseconds per request" in text
    assert "[1]" not in text, "a peer did not take part"
    assert str(ROOT) not in text


def test_quick_run_of_sockets(capfd: pytest.CaptureFixture[str]) -> None:
    text = sockets.run(sockets.QUICK)
    assert "| asyncflask |" in text
    assert "KiB each" in text
    events = [row.split("|") for row in text.partition("lost")[2].splitlines()[2:5]]
    assert [row[3].strip() for row in events] == ["0"] * 3, "lost events"
    assert "Traceback" not in capfd.readouterr().err


def test_scenario_keys_are_unique_and_targets_name_them() -> None:
    assert len(scenarios.SCENARIOS) == len(scenarios.TABLE)
    for target in scenarios.TARGETS:
        assert {target.ours[0], target.theirs[0]} <= set(scenarios.SCENARIOS)
        assert {target.ours[1], target.theirs[1]} <= set(PEERS)


def test_asgi_driver_asks_and_times() -> None:
    driver, request = drivers.AsgiDriver(raw.plain()), make_request("stream-async")
    try:
        answer = driver.ask(request)
        assert scenarios.SCENARIOS["stream-async"].check(answer)
        assert driver.time(request, 3, answer) > 0
        assert driver.time(request, 4, answer, at_once=2) > 0
        with pytest.raises(drivers.WrongAnswer):
            driver.time(make_request("404"), 1, answer)
    finally:
        driver.close()


def test_wsgi_driver_closes_the_iterable_and_refuses_another_answer() -> None:
    closed = []

    class Body(list[bytes]):
        def close(self) -> None:
            closed.append(True)

    def app(environ, start_response):
        assert environ["wsgi.input"].read() == make_request("echo-wsgi").body
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Body([b"a", b"b"])

    driver, request = drivers.WsgiDriver(app), make_request("echo-wsgi")
    answer = driver.ask(request)
    assert answer == scenarios.Answer(200, {"content-type": "text/plain"}, b"ab")
    driver.time(request, 2, answer)
    assert len(closed) == 3
    with pytest.raises(drivers.WrongAnswer):
        driver.time(request, 1, answer._replace(body=b"other"))


def test_receive_waits_for_the_end_once_the_body_is_through() -> None:
    """Frameworks listen for a disconnect while they stream."""
    import asyncio

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        assert (await receive())["more_body"] is False
        listener = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        assert not listener.done()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"done"})
        assert (await listener)["type"] == "http.disconnect"

    driver = drivers.AsgiDriver(app)
    assert driver.ask(make_request("json-async")).body == b"done"
    driver.close()


def test_every_peer_has_its_turn_in_every_round() -> None:
    assert list(rounds.take_turns(["a", "b", "c"], 3)) == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert list(rounds.take_turns([], 3)) == []


def test_a_peer_that_is_absent_is_reported_with_the_reason() -> None:
    with rounds.Workers() as workers:
        found = rounds.measure(workers, scenarios.SCENARIOS["json-sync"], ["raw", "flask"], 1, 0.01)
    assert found == {"raw": raw.WITHOUT["json-sync"]}


def test_a_worker_that_ended_is_reported_and_replaced() -> None:
    with rounds.Workers() as workers:
        worker = workers.get("raw", "asgi")
        worker.process.kill()
        worker.process.wait()
        assert "without" in worker.ask(do="run", count=1)
        assert workers.get("raw", "asgi") is not worker


@pytest.mark.parametrize(
    ("best", "median", "verdict"), [(1.0, 1.1, "reached"), (1.0, 1.3, "unsure"), (1.3, 1.4, "not reached")]
)
def test_a_target_is_judged_by_best_and_median(best: float, median: float, verdict: str) -> None:
    assert report.judge(rounds.Cell(best, median), 1.2) == verdict


def test_the_report_gives_ratios_targets_and_garbage() -> None:
    cells: rounds.Cells = {
        ("json-async", "asyncflask"): rounds.Cell(11.0, 12.0),
        ("json-async", "starlette"): rounds.Cell(10.0, 10.0),
        ("json-async", "raw"): "a reason",
    }
    cycles = {("asyncflask", "asgi"): {"200": {}, "404": {"dict": 2}}}
    text = report.write_report(report.Results(["asyncflask", "starlette", "raw"], 2, [], cells, cycles, {}))
    assert "11.0 (12.0)" in text
    assert "1.10 (1.20) | reached" in " ".join(text.split())
    assert "404: 2 dict" in text
    assert "[1] a reason" in text
