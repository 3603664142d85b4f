"""The benchmark harness works: a tiny run, and what it must refuse."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import check, drivers, fit, growth, report, rounds, scaling, scenarios, sockets, targets
from benchmarks.peers import PEERS, raw
from benchmarks.servers import ASYNC, SERVICES, Rate, Service

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
    assert len(check.BY_KEY) == len(targets.TARGETS)
    for target in targets.TARGETS:
        assert {target.ours[0], target.theirs[0]} <= set(scenarios.SCENARIOS)
        assert {target.ours[1], target.theirs[1]} <= set(PEERS)
    for target in targets.RATE_TARGETS:
        for peer in ("asyncflask", target.peer):
            assert Service(target.server, peer, *target.view) in SERVICES


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
    assert targets.judge(rounds.Cell(best, median), 1.2) == verdict


def test_the_report_gives_ratios_targets_and_garbage() -> None:
    cells: rounds.Cells = {
        ("json-async", "asyncflask"): rounds.Cell(11.0, 12.0),
        ("json-async", "starlette"): rounds.Cell(10.0, 10.0),
        ("json-async", "raw"): "a reason",
    }
    cycles = {("asyncflask", "asgi"): {"200": {}, "404": {"dict": 2}}}
    kept = {("asyncflask", "asgi"): {"200": 0.25, "404": "a reason"}}
    rates: dict[Service, Rate | str] = {
        Service("gunicorn", "asyncflask", *ASYNC): Rate(300, 210),
        Service("gunicorn", "flask", *ASYNC): Rate(100, 100),
    }
    startup = {"import": {"flask": 0.1, "asyncflask": 0.11}}
    peers = ["asyncflask", "starlette", "raw"]
    text = report.write_report(report.Results(peers, 2, [], cells, cycles, rates, kept, startup))
    words = " ".join(text.split())
    assert "11.0 (12.0)" in text
    assert "JSON, async view, ASGI | <= 0.90 x Starlette | 1.10 (1.20) | not reached" in words
    assert "gunicorn, JSON, async view | >= 2.00 x Flask, requests/s | 3.00 (2.10) | reached" in words
    assert "memory kept by a request | none | 0.25 bytes | reached" in words
    assert "objects left in cycles | none | 2 | not reached" in words
    assert "import | <= 1.00 x Flask | 1.10 | not reached" in words
    assert "import, ms | 100 | 110" in words
    assert "404: 2 dict" in text
    assert "[1] a reason" in text


def test_what_a_request_keeps_is_counted() -> None:
    with rounds.Workers() as workers:
        found = workers.get("raw", "asgi").ask(do="kept", few=20, many=1_020)
    assert found["cases"]["200, async view"] < 50
    assert found["cases"]["200, sync view"] == "answers 404"


class TestCheck:
    """`python -m benchmarks.check`."""

    KEY = "json-wsgi/flask"

    @pytest.fixture
    def run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> Callable[[float], tuple[int, str]]:
        """With a doctored file: the exit status, and what was printed."""
        pytest.importorskip("flask")
        monkeypatch.setattr(check, "TRIES", (2, 2, 2))

        def run(ratio: float) -> tuple[int, str]:
            check.write_ratios(tmp_path / "doctored.json", {self.KEY: ratio})
            status = check.main(["--only", self.KEY, "--ratios", str(tmp_path / "doctored.json")])
            return status, capsys.readouterr().out

        return run

    def test_fails_where_committed_figures_were_far_better(self, run: Callable[[float], tuple[int, str]]) -> None:
        status, output = run(0.01)
        assert status == 1
        assert re.search(r"WORSE json-wsgi/flask +committed 0.010  now \d\.\d+ \d\.\d+ \d\.\d+\n", output)

    def test_succeeds_at_the_first_try_where_they_were_worse(self, run: Callable[[float], tuple[int, str]]) -> None:
        status, output = run(10)
        assert status == 0
        assert re.search(r"ok +json-wsgi/flask +committed 10.000  now \d\.\d+\n$", output)

    def test_ratios_are_written_and_others_stay(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(check, "measure_ratio", lambda target, rounds: 0.12345)
        check.write_ratios(tmp_path / "ratios.json", {"upload/starlette": 2.0, "gone/peer": 1.0})
        check.main(["--write", "--only", self.KEY, "--ratios", str(tmp_path / "ratios.json")])
        assert check.read_ratios(tmp_path / "ratios.json") == {self.KEY: 0.123, "upload/starlette": 2.0}

    @pytest.mark.parametrize(
        ("tries", "used", "failed"),
        [([1.25], 1, False), ([1.3, 1.3, 1.2], 3, False), ([1.3, 1.26, 1.4], 3, True), ([1.3, 0.9], 2, False)],
    )
    def test_only_three_tries_in_a_row_are_a_failure(self, tries: list[float], used: int, failed: bool) -> None:
        measured = iter(tries)
        outcome = check.check(self.KEY, 1.0, lambda target, rounds: next(measured))
        assert (len(outcome.tries), outcome.failed) == (used, failed)

    def test_what_cannot_be_measured_fails_with_the_reason(self) -> None:
        def measure(target: targets.Target, rounds: int) -> float:
            return check.compare(check.require("flask", "cannot be imported"), [])

        outcome = check.check(self.KEY, 1.0, measure)
        assert outcome.failed
        assert "flask: cannot be imported" in str(outcome)
        assert check.check("no-such/peer", 1.0).failed

    def test_a_target_without_a_committed_ratio_fails(self) -> None:
        assert check.check_all({}, [self.KEY]) == 1

    def test_the_processors_time_counts_unless_a_side_waits(self) -> None:
        busy, waiting = rounds.Turn(3.0, 1.0, 0.0), rounds.Turn(2.0, 0.5, 1.0)
        assert check.compare([busy], [busy._replace(seconds=1.0)]) == 1.0
        assert check.compare([busy], [waiting]) == 1.5

    def test_every_target_has_a_committed_ratio(self) -> None:
        assert set(check.read_ratios(check.RATIOS)) == set(check.BY_KEY)


MICROSECONDS = fit.Wording("thing", "µs")


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([(1, 10.0), (10, 10.5), (100, 11.0)], "flat: 10.0 to 11.0 µs"),
        ([(0, 10.0), (10, 30.0), (50, 110.0)], "linear: 2.00 µs per thing, from 10.0 (points within 0%)"),
        ([(1, 1.0), (10, 100.0), (100, 10.0)], "neither flat nor linear: 1.00 at 1, 10.0 µs at 100"),
        (
            [(1, 10.0), (2, 20.0), (3, 30.0), (6, 30.0), (9, 30.0)],
            "linear: 10.00 µs per thing, from 0.0000 (points within 0%), up to 3; then flat: 30.0 to 30.0 µs",
        ),
    ],
)
def test_growth_is_put_into_words(points: fit.Points, words: str) -> None:
    assert fit.describe(points, MICROSECONDS).replace("-0.0000", "0.0000") == words


def test_quick_run_of_growth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    growth.main(["--quick", "--output", str(tmp_path)])
    text = (tmp_path / "growth.md").read_text()
    assert all(f"## {series.title}\n" in text for series in growth.SERIES)
    assert ("growth.svg" in text) == (tmp_path / "growth.svg").exists()
    assert "- asyncflask, ASGI: " in text
    assert "| 1/1,024 |" in text


@pytest.mark.skipif(sys.platform == "win32", reason="servers of other systems")
def test_quick_run_of_scaling(capsys: pytest.CaptureFixture[str]) -> None:
    scaling.main(["--quick"])
    text = capsys.readouterr().out
    assert "| uvicorn " in text
    assert "| an async view that computes " in text
    assert "| SQLite " in text


def test_tables_are_filled_in_between_their_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- begin: one -->\nold\n<!-- end: one -->\nb\n")
    for _ in range(2):
        report.fill_in(page, {"one": ["new", "lines"]})
    assert page.read_text() == "a\n<!-- begin: one -->\nnew\nlines\n<!-- end: one -->\nb\n"
    with pytest.raises(ValueError, match="other"):
        report.fill_in(page, {"other": []})
