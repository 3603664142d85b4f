"""Worker threads and their lanes: bounds, queue, affinity, fork, end."""

from __future__ import annotations

import errno
import gc
import os
import random
import sys
import threading
import time
import typing as t
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from asyncflask.workers import Lane, Overloaded, PoolLane, QueueBell, Ticket, WorkerPool, _make_bell

PATIENCE = 5


@pytest.fixture
def make_pool() -> Iterator[Callable[..., WorkerPool]]:
    pools: list[WorkerPool] = []

    def make(size: int, limit: int = 100) -> WorkerPool:
        pools.append(WorkerPool(size, limit))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


class Work:
    """Jobs that note where they ran; `block` ones last until `release`."""

    def __init__(self) -> None:
        self.done: list[tuple[object, int]] = []
        self.started: list[object] = []
        self.release = threading.Event()

    def quick(self, name: object, *lane: PoolLane) -> None:
        self.done.append((name, threading.get_ident()))

    def block(self, name: object, *lane: PoolLane) -> None:
        self.started.append(name)
        assert self.release.wait(PATIENCE)
        self.done.append((name, threading.get_ident()))

    @property
    def names(self) -> list[object]:
        return [name for name, _ in self.done]

    @property
    def threads(self) -> set[int]:
        return {thread for _, thread in self.done}


@pytest.fixture
def work() -> Iterator[Work]:
    work = Work()
    yield work
    work.release.set()


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.001)


def threads_of(pool: WorkerPool) -> list[threading.Thread]:
    ids = {lane.thread_id for lane in pool.lanes}
    return [thread for thread in threading.enumerate() if thread.ident in ids]


# -- lanes


def test_lane_keeps_the_order(work: Work) -> None:
    lane, ticket = Lane(threading.get_ident()), Ticket()
    for number in range(5):
        lane.put(partial(work.quick, number))
    lane.put(lambda: lane.wake(ticket))
    lane.serve(ticket)
    assert work.names == [0, 1, 2, 3, 4]
    assert work.threads == {threading.get_ident()}


def test_done_ticket_is_not_waited_for() -> None:
    lane, ticket = Lane(), Ticket()
    lane.wake(ticket)
    lane.serve(ticket)  # and the left-over wake-up does no harm
    later = Ticket()
    lane.put(lambda: lane.wake(later))
    lane.serve(later)
    assert later.done


def test_waits_nest_and_may_end_in_any_order(work: Work) -> None:
    lane, outer, inner = Lane(), Ticket(), Ticket()

    def wait_inside() -> None:
        lane.put(lambda: lane.wake(outer))
        lane.put(partial(work.quick, "between"))
        lane.put(lambda: lane.wake(inner))
        lane.serve(inner)
        work.quick("inner over")

    lane.put(wait_inside)
    lane.serve(outer)
    assert work.names == ["between", "inner over"]


def test_what_a_job_returns_is_called_after_it(work: Work) -> None:
    lane, ticket = Lane(), Ticket()

    def job() -> Callable[[], object]:
        work.quick("job")
        return lambda: (work.quick("tell"), lane.wake(ticket))

    lane.put(job)
    lane.serve(ticket)
    assert work.names == ["job", "tell"]


# -- the pool's bounds


@pytest.mark.parametrize(("size", "limit"), [(0, 1), (-1, 1), (1, -1)])
def test_senseless_sizes_are_refused(size: int, limit: int) -> None:
    with pytest.raises(ValueError, match="WORKER_THREADS"):
        WorkerPool(size, limit)


def test_threads_start_when_needed_and_are_used_again(make_pool: t.Any, work: Work) -> None:
    pool = make_pool(4)
    assert pool.lanes == []
    for number in range(10):
        pool.submit(partial(work.quick, number))
        wait_until(lambda number=number: len(work.done) == number + 1 and pool.idle)
    assert len(pool.lanes) == 1 and len(work.threads) == 1


def test_at_most_size_jobs_run_at_once_and_all_run(make_pool: t.Any, work: Work) -> None:
    pool = make_pool(3)
    for number in range(20):
        pool.submit(partial(work.block, number))
    wait_until(lambda: len(work.started) == 3)
    time.sleep(0.02)
    assert len(work.started) == 3
    work.release.set()
    wait_until(lambda: len(work.done) == 20)
    assert len(work.threads) == 3
    # First come, first served; two threads that took theirs at once may note it in either order.
    assert sorted(work.started) == list(range(20))
    assert all(abs(place - number) <= 3 for place, number in enumerate(work.started))


def test_beyond_the_queue_is_overloaded_and_recovers(make_pool: t.Any, work: Work) -> None:
    pool = make_pool(1, 2)
    for number in range(3):
        pool.submit(partial(work.block, number))
    with pytest.raises(Overloaded):
        pool.submit(partial(work.block, "refused"))
    work.release.set()
    wait_until(lambda: len(work.done) == 3 and pool.idle)
    pool.submit(partial(work.quick, "later"))
    wait_until(lambda: "later" in work.names)
    assert "refused" not in work.names


def test_no_queue_at_all(make_pool: t.Any, work: Work) -> None:
    pool = make_pool(1, 0)
    pool.submit(partial(work.block, 1))
    with pytest.raises(Overloaded):
        pool.submit(partial(work.block, 2))
    with pytest.raises(Overloaded):
        pool.choose(refuse=True)
    pool.choose()


def test_submitting_from_many_threads_loses_nothing(make_pool: t.Any, work: Work) -> None:
    pool = make_pool(3, 10_000)

    def submit() -> None:
        for number in range(300):
            pool.submit(partial(work.quick, number))
            pool.choose().put(partial(work.quick, number))

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: len(work.done) == 2400)
    wait_until(lambda: len(pool.idle) == len(pool.lanes) <= 3)
    assert len(set(map(id, pool.idle))) == len(pool.idle)


def test_thread_that_cannot_be_started_costs_nothing(
    make_pool: t.Any, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container's limit of threads: 503 where there is none at all, and later requests do not go to such a lane."""
    pool = make_pool(2, 10)
    start = threading.Thread.start

    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(Overloaded):
        pool.submit(partial(work.quick, "never"))
    with pytest.raises(Overloaded):
        pool.choose()
    monkeypatch.setattr(threading.Thread, "start", start)
    lane = pool.choose()
    lane.put(partial(work.quick, "bound"))
    pool.submit(partial(work.quick, "submitted"))
    wait_until(lambda: len(work.done) == 2)
    assert len(pool.lanes) <= 2 and len(threads_of(pool)) == len(pool.lanes)


# -- how a thread is woken


@pytest.mark.parametrize("make", [_make_bell, QueueBell])
def test_bell_is_heard_once_however_often_it_rang(make: t.Any) -> None:
    bell, heard = make(), []

    def listen() -> None:
        for number in range(2):
            bell.wait()
            heard.append(number)

    bell.ring()
    bell.ring()
    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    wait_until(lambda: heard)
    time.sleep(0.02)
    assert heard == [0]
    bell.ring()
    thread.join(PATIENCE)
    assert heard == [0, 1]


def test_too_many_open_files_do_not_stop_the_threads(
    make_pool: t.Any, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("os.eventfd", fail, raising=False)
    make_pool(1).submit(partial(work.quick, 1))
    wait_until(lambda: work.done)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_threads_that_ended_leave_no_files_open(make_pool: t.Any, work: Work) -> None:
    before = len(os.listdir("/proc/self/fd"))
    pool = make_pool(5)
    for number in range(5):
        pool.submit(partial(work.block, number))
    wait_until(lambda: len(work.started) == 5)
    pool.close()
    work.release.set()
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)


# -- one thread wakes the next (rule 6)


def test_short_jobs_in_a_row_keep_few_threads_busy(make_pool: t.Any, work: Work) -> None:
    pool = make_pool(40, 10_000)
    for number in range(2000):
        pool.submit(partial(work.quick, number))
    wait_until(lambda: len(work.done) == 2000)
    assert len(pool.lanes) < 40
    assert pool.waking is None or not pool.backlog


def test_jobs_that_block_spread_over_idle_threads(make_pool: t.Any, work: Work) -> None:
    """Each waits for all the others."""
    pool = make_pool(8)
    for number in range(1, 4):
        meeting = threading.Barrier(8)

        def job(lane: PoolLane, meeting: threading.Barrier = meeting) -> None:
            work.quick(meeting.wait(PATIENCE))

        for _ in range(8):
            pool.submit(job)
        wait_until(lambda number=number: len(work.done) == 8 * number and len(pool.idle) == 8)
    assert len(pool.lanes) == 8


def test_free_thread_is_not_refused_because_others_have_queues(make_pool: t.Any, work: Work) -> None:
    pool = make_pool(2, 1)
    pool.submit(partial(work.block, "busy"))
    wait_until(lambda: work.started)
    for number in range(3):
        pool.lanes[0].put(partial(work.quick, number))
    pool.submit(partial(work.quick, "free"))
    wait_until(lambda: "free" in work.names)


def test_thread_that_was_woken_for_the_queue_does_its_own_work_too(make_pool: t.Any, work: Work) -> None:
    pool = make_pool(1)
    lane = pool.choose()
    with pool.lock:  # both arrive before the thread looks
        pool.idle.remove(lane)
        pool.waking = lane
        lane.inbox.put(None)
        lane.inbox.put(partial(work.quick, "own"))
        pool.backlog.append(partial(work.quick, "queued"))
    wait_until(lambda: len(work.done) == 2)
    wait_until(lambda: pool.idle == [lane])
    assert work.names == ["own", "queued"] and pool.waking is None


def test_thread_that_cannot_be_started_by_another_leaves_the_queue_to_it(
    make_pool: t.Any, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(3)
    pool.submit(partial(work.quick, "first"))
    wait_until(lambda: work.done)

    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    for number in range(50):
        pool.submit(partial(work.quick, number))
    wait_until(lambda: len(work.done) == 51)
    assert len(pool.lanes) == 1


@pytest.mark.parametrize("bell", ["Bell", "QueueBell"])
@pytest.mark.parametrize("size", [1, 3, 40])
def test_no_job_is_left_behind(make_pool: t.Any, size: int, bell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bursts from several threads, which wait for the end of each: a job that nobody takes would stop them."""
    if bell == "QueueBell":  # another system than Linux, or gevent
        monkeypatch.delattr("os.eventfd", raising=False)
    pool = make_pool(size, 10_000)
    interval, end, errors = sys.getswitchinterval(), time.monotonic() + 0.5, []

    def give_bursts(seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < end and not errors:
            count = chance.randrange(1, 60)
            left, over = list(range(count)), threading.Event()

            def job(pause: float, left: list[int] = left, over: threading.Event = over) -> None:
                if pause:
                    time.sleep(pause)
                left.pop()
                if not left:
                    over.set()

            for _ in range(count):
                pause = chance.choice((0, 0, 0, 0, 0.0002))
                if chance.random() < 0.3:
                    lane = pool.choose()
                    lane.put(partial(job, pause))
                    pool.release(lane)
                else:
                    pool.submit(lambda lane, pause=pause, job=job: job(pause))
            if not over.wait(PATIENCE):
                errors.append(f"{len(left)} of {count} jobs were not run")

    sys.setswitchinterval(1e-5)
    try:
        givers = [threading.Thread(target=give_bursts, args=(seed,)) for seed in range(4)]
        for giver in givers:
            giver.start()
        for giver in givers:
            giver.join(4 * PATIENCE)
    finally:
        sys.setswitchinterval(interval)
    assert errors == []
    wait_until(lambda: len(pool.idle) == len(pool.lanes))
    assert not pool.backlog and pool.waking is None and all(lane.given == 0 for lane in pool.lanes)


# -- requests that start on the loop


def test_chosen_lane_is_one_thread(make_pool: t.Any, work: Work) -> None:
    pool = make_pool(4)
    lane = pool.choose()
    for number in range(20):
        lane.put(partial(work.quick, number))
        pool.submit(partial(work.quick, "other"))
    wait_until(lambda: len(work.done) == 40)
    assert len({thread for name, thread in work.done if name != "other"}) == 1
    assert [name for name in work.names if name != "other"] == list(range(20))


def test_chosen_lanes_are_spread_over_the_threads(make_pool: t.Any, work: Work) -> None:
    """Requests that are on the loop before their first sync step must not all wait for one thread then."""
    pool = make_pool(4)
    lanes = [pool.choose() for _ in range(4)]
    for number, lane in enumerate(lanes):
        lane.put(partial(work.block, number))
    wait_until(lambda: len(work.started) == 4, 1)


def test_chosen_lanes_are_spread_evenly_when_there_are_more(make_pool: t.Any, work: Work) -> None:
    pool = make_pool(4)
    lanes = [pool.choose() for _ in range(40)]
    assert sorted(lanes.count(lane) for lane in pool.lanes) == [10, 10, 10, 10]


def test_busy_lane_is_not_chosen_while_another_is_free(make_pool: t.Any, work: Work) -> None:
    pool = make_pool(2)
    pool.submit(partial(work.block, "busy"))
    wait_until(lambda: work.started)
    pool.choose().put(partial(work.quick, "free"))
    wait_until(lambda: "free" in work.names, 1)


def test_jobs_that_wait_in_lanes_count_as_queue(make_pool: t.Any, work: Work) -> None:
    """Rule 4: the queue of what waits for a thread is bounded, whichever way it came."""
    pool = make_pool(1, 2)
    pool.submit(partial(work.block, "busy"))
    wait_until(lambda: work.started)
    for number in range(2):
        pool.choose(refuse=True).put(partial(work.quick, number))
    with pytest.raises(Overloaded):
        pool.choose(refuse=True)
    with pytest.raises(Overloaded):
        pool.submit(partial(work.quick, "refused"))
    assert (pool.count_busy(), pool.count_queued()) == (1, 2)
    pool.choose().put(partial(work.quick, "let in already"))  # a later step of a request is never refused
    work.release.set()
    wait_until(lambda: len(work.done) == 4)


def test_idle_thread_takes_from_the_queue_after_its_own_inbox(make_pool: t.Any, work: Work) -> None:
    pool = make_pool(1)
    lane = pool.choose()
    lane.put(partial(work.block, "first"))
    wait_until(lambda: work.started)
    pool.submit(partial(work.quick, "queued"))
    lane.put(partial(work.quick, "own"))
    work.release.set()
    wait_until(lambda: len(work.done) == 3)
    assert work.names == ["first", "own", "queued"]


def test_waking_an_idle_lane_keeps_it_idle_once(make_pool: t.Any, work: Work) -> None:
    pool = make_pool(1)
    lane = pool.choose()
    for _ in range(3):
        lane.wake(Ticket())
    wait_until(lambda: not lane.inbox.items)
    pool.submit(partial(work.quick, 1))
    wait_until(lambda: work.done and pool.idle)
    assert pool.idle == [lane]


def test_idle_thread_keeps_nothing_alive(make_pool: t.Any) -> None:
    import weakref

    class Thing:
        def __call__(self, lane: PoolLane) -> None:
            pass

    pool = make_pool(1)
    thing: Thing | None = Thing()
    seen = weakref.ref(t.cast(Thing, thing))
    pool.submit(t.cast(Thing, thing))
    thing = None
    wait_until(lambda: seen() is None)


# -- the end


def test_close_ends_the_threads(make_pool: t.Any, work: Work) -> None:
    pool = make_pool(3)
    for number in range(3):
        pool.submit(partial(work.block, number))
    wait_until(lambda: len(work.started) == 3)
    threads = threads_of(pool)
    assert len(threads) == 3
    pool.close()
    work.release.set()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    pool.close()  # twice does no harm


def test_close_lets_the_queue_be_done(make_pool: t.Any, work: Work) -> None:
    """Threads end "once they have done what they were given": a queued request would wait for ever."""
    pool = make_pool(1)
    for number in range(3):
        pool.submit(partial(work.block, number))
    wait_until(lambda: work.started)
    pool.close()
    work.release.set()
    wait_until(lambda: len(work.done) == 3, 1)


def test_step_of_a_request_that_was_let_in_runs_after_close(make_pool: t.Any, work: Work) -> None:
    """A server may end the lifespan while a request is still on the loop: its teardown is yet to come."""
    pool = make_pool(1)
    lane = pool.choose()
    lane.put(partial(work.quick, "before"))
    wait_until(lambda: work.done)
    pool.close()
    time.sleep(0.02)
    lane.put(partial(work.quick, "after"))
    wait_until(lambda: len(work.done) == 2, 1)


def test_close_ends_a_thread_that_waits_in_a_lane(make_pool: t.Any, work: Work) -> None:
    pool = make_pool(1)
    ticket = Ticket()

    def wait(lane: PoolLane) -> None:
        work.started.append("waiting")
        lane.serve(ticket)
        work.quick("waited")

    pool.submit(wait)
    wait_until(lambda: work.started)
    (lane,), (thread,) = pool.lanes, threads_of(pool)
    pool.close()
    time.sleep(0.02)
    lane.wake(ticket)
    wait_until(lambda: work.done)
    thread.join(1)
    assert not thread.is_alive()
    assert pool.idle == []


def test_closed_pool_may_be_used_again(make_pool: t.Any, work: Work) -> None:
    """Tests serve one application several times, each with a lifespan of its own."""
    pool = make_pool(2)
    pool.submit(partial(work.quick, 1))
    wait_until(lambda: work.done)
    pool.close()
    pool.submit(partial(work.quick, 2))
    wait_until(lambda: len(work.done) == 2)


def test_garbage_collected_under_the_lock_may_release_a_lane(make_pool: t.Any) -> None:
    """A request that nobody awaits any more ends wherever a collection begins."""
    pool = make_pool(1)
    lane = pool.choose()

    class Request:
        def __del__(self) -> None:
            pool.release(lane)

    def collect() -> None:
        request: t.Any = Request()
        request.itself = request
        del request
        with pool.lock:
            gc.collect()

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive() and lane.bound == 0


# -- fork


def in_child(check: Callable[[], object]) -> int:
    """The exit code of a forked process: 0 if `check` is true there within a second."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if check() else 2
        finally:
            os._exit(code)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return -1


needs_fork = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def parametrize_fork(f: t.Any) -> t.Any:
    for mark in needs_fork:
        f = mark(f)
    return f


@parametrize_fork
@pytest.mark.parametrize("way", ["submit", "choose"])
def test_child_makes_its_own_threads(make_pool: t.Any, work: Work, way: str) -> None:
    pool = make_pool(2, 2)
    for number in range(4):
        pool.submit(partial(work.block, number))  # all busy, the queue full

    def check() -> bool:
        here = Work()
        if way == "submit":
            pool.submit(partial(here.quick, "child"))
        else:
            pool.choose(refuse=True).put(partial(here.quick, "child"))
        wait_until(lambda: here.done)
        return len(pool.lanes) == 1 and not pool.backlog

    assert in_child(check) == 0
    work.release.set()
    wait_until(lambda: len(work.done) == 4)  # the parent goes on


@parametrize_fork
def test_child_is_not_stopped_by_a_lock_held_at_the_fork(make_pool: t.Any) -> None:
    pool = make_pool(1)
    pool.choose()

    def check() -> bool:
        pool.close()  # as at the child's exit
        here = Work()
        pool.submit(partial(here.quick, "child"))
        wait_until(lambda: here.done)
        return True

    with pool.lock:
        assert in_child(check) == 0
