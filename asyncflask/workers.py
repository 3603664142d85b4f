"""Worker threads for sync code that is reached over ASGI.

Rule 1. A *lane* is one thread's inbox. Work given to a lane runs in that thread, in order. All sync steps of a request
        use one lane, so a connection opened in a hook may be used in the view and closed in a teardown.
Rule 2. A lane is not held while its request waits on the event loop: other requests use it meanwhile.
Rule 3. A thread that waits for the loop serves its request's share of the lane while it waits. So sync code that waits
        for async code that calls sync code of the same request never deadlocks, however few threads there are; and no
        other request's code runs in the middle of a step.
Rule 4. The pool is bounded, and so is the queue of requests that wait for a thread. Beyond it: `Overloaded`.
        Only a request's first step may be refused; one that was let in is finished.
Rule 5. Threads do not survive a fork. In the child each pool starts anew.
Rule 6. One thread at a time is woken for the queue. It takes a job, and before it runs it, wakes the next thread if it
        leaves others behind. So one or two threads do many short jobs without a wake-up for each, and jobs that block
        spread over all threads. While a job waits and a thread is free, one is on its way (`waking`).
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from weakref import WeakSet

# What a job returns is called once the thread is free for the next: it wakes the loop, which may bring that next job.
Job = Callable[[], "Callable[[], object] | None"]


class Overloaded(Exception):
    """Every worker thread is busy and the queue is full."""


class Ticket:
    """Says when a wait is over; set from any thread."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done: bool = False


class Bell:
    """Wakes one thread, or a loop that reads `fd` (Linux).

    The GIL is let go of while it rings, so the thread that wakes up finds it free: half the time of a queue's `put`.
    """

    __slots__ = ("fd",)

    def __init__(self, flags: int = 0) -> None:
        self.fd: int = os.eventfd(0, os.EFD_CLOEXEC | flags)

    def ring(self) -> None:
        os.eventfd_write(self.fd, 1)

    def wait(self) -> None:
        os.read(self.fd, 8)  # unlike eventfd_read it goes on after a signal

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if hasattr(self, "fd"):  # the system may have refused it
            close(self.fd)  # of `os` nothing may be left at the process's end


class QueueBell:
    """The same by a queue."""

    __slots__ = ("rings",)

    def __init__(self) -> None:
        self.rings: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ring(self) -> None:
        if self.rings.empty():
            self.rings.put(None)

    def wait(self) -> None:
        self.rings.get()


def _make_bell() -> Bell | QueueBell:
    # Looked up now: gevent may have replaced it after this module was imported; then there are no threads to be woken.
    if hasattr(os, "eventfd") and queue.SimpleQueue.__module__ == "_queue":
        with suppress(OSError):  # too many open files
            return Bell()
    return QueueBell()


class Inbox:
    """A queue for one thread. Whoever adds to `items` rings afterwards, with no lock held that the thread will need."""

    __slots__ = ("bell", "items")

    def __init__(self) -> None:
        self.bell: Bell | QueueBell = _make_bell()
        self.items: deque[Job | None] = deque()

    def put(self, job: Job | None) -> None:
        self.items.append(job)
        self.bell.ring()

    def get(self) -> Job | None:
        while not self.items:
            self.bell.wait()
        return self.items.popleft()


class Lane:
    """One thread's inbox."""

    __slots__ = ("inbox", "thread_id")

    def __init__(self, thread_id: int | None = None, inbox: Inbox | None = None) -> None:
        # Looked up now: gevent may have replaced it after this module was imported (gunicorn's `--preload`).
        self.inbox: queue.SimpleQueue[Job | None] | Inbox = queue.SimpleQueue() if inbox is None else inbox
        self.thread_id: int | None = thread_id

    def put(self, job: Job) -> None:
        self.inbox.put(job)

    def serve(self, ticket: Ticket) -> None:
        """Run what arrives until the ticket is done (rule 3). Only the lane's own thread may call it."""
        while not ticket.done:
            job = self.inbox.get()
            if job is not None:
                _call(job())
            del job  # an error's traceback may hold this frame: no cycle

    def wake(self, ticket: Ticket) -> None:
        """End a `serve`; from any thread."""
        ticket.done = True
        self.inbox.put(None)


class PoolLane(Lane):
    """A worker thread's lane."""

    inbox: Inbox  # pyright: ignore[reportIncompatibleVariableOverride]  # what it is made with
    thread_id: int | None
    __slots__ = ("bound", "closing", "given", "pool")

    def __init__(self, pool: WorkerPool) -> None:
        super().__init__(None, Inbox())
        self.pool: WorkerPool = pool
        self.closing: bool = False
        self.given: int = 0  # jobs, the running one included
        self.bound: int = 0  # requests that started on the loop and have this lane as their thread

    def put(self, job: Job) -> None:
        with self.pool.lock:
            if self in self.pool.idle:
                self.pool.idle.remove(self)
            self.given += 1
            self.inbox.items.append(job)
            if self.closing and self.thread_id is None:  # the pool was closed under a request that was let in
                self.start(0)
        self.inbox.bell.ring()

    def run_next(self) -> Callable[[], object] | None:
        """Wait for a job and run it; None is a mere wake-up."""
        job = self.inbox.get()
        return None if job is None else job()

    def start(self, number: int) -> None:
        self.thread_id = 0
        threading.Thread(target=_work, args=(self,), name=f"asyncflask-worker-{number}", daemon=True).start()


class RequestLane(Lane):
    """One request's share of a worker's lane: a thread that waits for the loop serves this share only."""

    inbox: queue.SimpleQueue[Job | None]  # pyright: ignore[reportIncompatibleVariableOverride]
    thread_id: int | None
    __slots__ = ("posted", "worker")

    def __init__(self, worker: PoolLane) -> None:
        super().__init__(worker.thread_id)
        self.worker: PoolLane = worker
        self.posted: bool = False  # one look at the inbox is on its way

    def put(self, job: Job) -> None:
        self.inbox.put(job)
        self._post()

    def _post(self) -> None:
        if not self.posted:
            self.posted = True
            self.worker.put(self._run_next)

    def _run_next(self) -> Callable[[], object] | None:
        self.thread_id = self.worker.thread_id
        self.posted = False  # before the look: what comes from now on posts another
        while True:
            try:
                job = self.inbox.get_nowait()
            except queue.Empty:  # run already, while the thread waited
                return None
            if job is not None:
                if not self.inbox.empty():
                    self._post()
                return job()


PoolJob = Callable[[PoolLane], "Callable[[], object] | None"]


class WorkerPool:
    """At most `size` threads, at most `limit` waiting jobs. Jobs handle their own errors."""

    def __init__(self, size: int, limit: int) -> None:
        if size < 1 or limit < 0:
            raise ValueError("WORKER_THREADS must be at least 1 and WORKER_QUEUE_LIMIT at least 0.")
        self.size = size
        self.limit = limit
        self._reset()
        _pools.add(self)

    def _reset(self) -> None:
        # A collection of garbage may begin under it, and end a request, which then comes for it again.
        self.lock: threading.RLock = threading.RLock()
        self.lanes: list[PoolLane] = []
        self.idle: list[PoolLane] = []
        self.backlog: deque[PoolJob] = deque()
        self.waking: PoolLane | None = None  # no longer idle: on its way to the backlog

    def submit(self, job: PoolJob) -> None:
        """Run `job(lane)` in the next free thread. Raises Overloaded."""
        with self.lock:
            if self._is_full():
                raise Overloaded
            woken = self._find_next()
            self.backlog.append(job)  # only now: the system may refuse a thread
        if woken is not None:
            woken.inbox.bell.ring()

    def choose(self, refuse: bool = False) -> PoolLane:
        """The lane of a request that starts on the loop. If it may be refused and the queue is full: Overloaded."""
        with self.lock:
            if refuse and self._is_full():
                raise Overloaded
            lane = self._free_lane()
            if lane is not None:
                self.idle.append(lane)
            else:
                lane = min(self.lanes, key=_load)
            lane.bound += 1
            return lane

    def release(self, lane: PoolLane) -> None:
        """A request that had chosen the lane is over."""
        with self.lock:
            lane.bound -= 1

    def _is_full(self) -> bool:
        """Whether there is no thread for another job, and no place in the queue either."""
        free = len(self.idle) + (self.waking is not None) + self.size - len(self.lanes)
        return len(self.backlog) >= free and self.count_queued() - free >= self.limit

    def count_queued(self) -> int:
        """Jobs that wait for a thread."""
        return len(self.backlog) + sum(max(lane.given - 1, 0) for lane in self.lanes)

    def count_busy(self) -> int:
        """Threads that have work."""
        return sum(lane.given > 0 for lane in self.lanes)

    def _find_next(self) -> PoolLane | None:
        """The thread to be woken for the queue, if one is free and none is on its way."""
        if self.waking is not None:
            return None
        self.waking = self._free_lane()
        if self.waking is not None:  # before any job that the lane is given: it comes to the queue first
            self.waking.inbox.items.append(None)
        return self.waking

    def close(self) -> None:
        """End the threads once they have done what they were given."""
        with self.lock:
            lanes, self.lanes, self.idle, self.waking = self.lanes, [], [], None
            for lane in lanes:
                lane.closing = True
        for lane in lanes:
            lane.inbox.put(None)

    def _free_lane(self) -> PoolLane | None:
        if self.idle and not self.idle[-1].bound:
            return self.idle.pop()
        lane = min(self.idle, key=_load, default=None)
        if (lane is None or lane.bound) and len(self.lanes) < self.size:
            try:
                return self._start_lane()
            except RuntimeError:  # the system refuses a thread: those that there are will do
                if not self.lanes:
                    raise Overloaded from None
        if lane is not None:
            self.idle.remove(lane)
        return lane

    def _start_lane(self) -> PoolLane:
        lane = PoolLane(self)
        lane.start(len(self.lanes) + 1)
        self.lanes.append(lane)  # only now: the system may refuse a thread
        return lane

    def take(self, lane: PoolLane) -> Job | None:
        """What the lane's thread does next: its own inbox first, then the queue, else it is idle; None: it ends."""
        with self.lock:
            if self.waking is lane:
                self.waking = None
            job: Job = lane.run_next
            next_lane = None
            lane.given = len(lane.inbox.items)
            if not lane.given:
                if self.backlog:
                    lane.given = 1
                    job = partial(self.backlog.popleft(), lane)
                elif lane.closing:
                    lane.thread_id = None
                    return None
                elif lane not in self.idle:
                    self.idle.append(lane)
            if self.backlog and not lane.closing:  # those of a closed pool are all awake until the queue is empty
                next_lane = self._find_next()
        if next_lane is not None:
            next_lane.inbox.bell.ring()
        return job


_pools: WeakSet[WorkerPool] = WeakSet()


def _reset_all() -> None:
    for pool in tuple(_pools):
        pool._reset()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has none
    os.register_at_fork(after_in_child=_reset_all)


def _load(lane: PoolLane) -> int:
    return lane.given + lane.bound


def _work(lane: PoolLane) -> None:
    lane.thread_id = threading.get_ident()
    job: Job | None = lane.run_next
    while job is not None:
        tell = job()
        job = lane.pool.take(lane)
        _call(tell)
        del tell  # an idle thread keeps nothing of its last request alive


def _call(f: Callable[[], object] | None) -> None:
    if f is not None:
        f()
