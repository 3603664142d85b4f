"""Worker threads for sync code that is reached over ASGI.

Rule 1. A *lane* is one thread's inbox. Work given to a lane runs in that thread, in order. All sync steps of a request
        use one lane, so a connection opened in a hook may be used in the view and closed in a teardown.
Rule 2. A lane is not held while its request waits on the event loop: other requests use it meanwhile.
Rule 3. A thread that waits for the loop serves its own lane while it waits. So sync code that waits for async code that
        calls sync code of the same request never deadlocks, however few threads there are.
Rule 4. The pool is bounded, and so is the queue of requests that wait for a thread. Beyond it: `Overloaded`.
        Only a request's first step may be refused; one that was let in is finished.
Rule 5. Threads do not survive a fork. A pool notices by the process id and starts anew.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue

# What a job returns is called once the thread is free for the next: it wakes the loop, which may bring that next job.
Job = Callable[[], "Callable[[], object] | None"]


class Overloaded(Exception):
    """Every worker thread is busy and the queue is full."""


class Ticket:
    """Says when a wait is over; set from any thread."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = False


class Lane:
    """One thread's inbox."""

    __slots__ = ("inbox", "thread_id")

    def __init__(self, thread_id: int | None = None) -> None:
        self.inbox: SimpleQueue[Job | None] = SimpleQueue()
        self.thread_id = thread_id

    def put(self, job: Job) -> None:
        self.inbox.put(job)

    def serve(self, ticket: Ticket) -> None:
        """Run what arrives until the ticket is done (rule 3). Only the lane's own thread may call it."""
        while not ticket.done:
            job = self.inbox.get()
            if job is not None:
                _call(job())

    def wake(self, ticket: Ticket) -> None:
        """End a `serve`; from any thread."""
        ticket.done = True
        self.inbox.put(None)


class PoolLane(Lane):
    """A worker thread's lane."""

    __slots__ = ("bound", "pool")

    def __init__(self, pool: WorkerPool) -> None:
        super().__init__()
        self.pool = pool
        self.bound = 0  # requests that started on the loop and have this lane as their thread

    def put(self, job: Job) -> None:
        with self.pool.lock:
            if self in self.pool.idle:
                self.pool.idle.remove(self)
            self.inbox.put(job)


PoolJob = Callable[[PoolLane], "Callable[[], object] | None"]


class WorkerPool:
    """At most `size` threads, at most `limit` waiting jobs. Jobs handle their own errors."""

    def __init__(self, size: int, limit: int) -> None:
        if size < 1 or limit < 0:
            raise ValueError("WORKER_THREADS must be at least 1 and WORKER_QUEUE_LIMIT at least 0.")
        self.size = size
        self.limit = limit
        self._reset()

    def _reset(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.lanes: list[PoolLane] = []
        self.idle: list[PoolLane] = []
        self.backlog: deque[PoolJob] = deque()

    def submit(self, job: PoolJob) -> None:
        """Run `job(lane)` in a free thread, or queue it. Raises Overloaded."""
        self._notice_fork()
        with self.lock:
            lane = self._free_lane()
            if lane is not None:
                lane.inbox.put(partial(job, lane))
            elif len(self.backlog) < self.limit:
                self.backlog.append(job)
            else:
                raise Overloaded

    def choose(self, refuse: bool = False) -> PoolLane:
        """The lane of a request that starts on the loop. If it may be refused and the queue is full: Overloaded."""
        self._notice_fork()
        with self.lock:
            lane = self._free_lane()
            if lane is not None:
                self.idle.append(lane)
            elif not refuse or len(self.backlog) < self.limit:
                lane = min(self.lanes, key=lambda lane: lane.inbox.qsize() + lane.bound)
            else:
                raise Overloaded
            lane.bound += 1
            return lane

    def close(self) -> None:
        """End the threads once they have done what they were given."""
        with self.lock:
            for lane in self.lanes:
                lane.inbox.put(_stop)
            self.lanes, self.idle = [], []

    def _notice_fork(self) -> None:
        if self.pid != os.getpid():
            self._reset()

    def _free_lane(self) -> PoolLane | None:
        if self.idle:
            return self.idle.pop()
        if len(self.lanes) == self.size:
            return None
        lane = PoolLane(self)
        self.lanes.append(lane)
        name = f"asyncflask-worker-{len(self.lanes)}"
        threading.Thread(target=_work, args=(lane,), name=name, daemon=True).start()
        return lane

    def _take_next(self, lane: PoolLane) -> None:
        """What a lane does after a job: its own inbox first, then the queue, else it is idle."""
        with self.lock:
            if not lane.inbox.empty():
                return
            if self.backlog:
                lane.inbox.put(partial(self.backlog.popleft(), lane))
            elif lane not in self.idle:
                self.idle.append(lane)


def _stop() -> None:
    """The job that ends a thread."""


def _work(lane: PoolLane) -> None:
    lane.thread_id = threading.get_ident()
    while (job := lane.inbox.get()) is not _stop:
        tell = None if job is None else job()
        lane.pool._take_next(lane)
        _call(tell)
        del job, tell  # an idle thread keeps nothing of its last request alive


def _call(f: Callable[[], object] | None) -> None:
    if f is not None:
        f()
