"""Worker threads for sync code that is reached over ASGI.

Rule 1. A *lane* is one thread's inbox. Work given to a lane runs in that thread, in order. All sync steps of a request
        use one lane, so a connection opened in a hook may be used in the view and closed in a teardown.
Rule 2. A lane is not held while its request waits on the event loop: other requests use it meanwhile.
Rule 3. A thread that waits for the loop serves its request's share of the lane while it waits. So sync code that waits
        for async code that calls sync code of the same request never deadlocks, however few threads there are; and no
        other request's code runs in the middle of a step.
Rule 4. The pool is bounded, and so is the queue of requests that wait for a thread. Beyond it: `Overloaded`.
        Only a request's first step may be refused; one that was let in is finished.
Rule 5. Threads do not survive a fork. A pool notices by the process id and starts anew.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from functools import partial

# What a job returns is called once the thread is free for the next: it wakes the loop, which may bring that next job.
Job = Callable[[], "Callable[[], object] | None"]


class Overloaded(Exception):
    """Every worker thread is busy and the queue is full."""


class Ticket:
    """Says when a wait is over; set from any thread."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done: bool = False


class Lane:
    """One thread's inbox."""

    __slots__ = ("inbox", "thread_id")

    def __init__(self, thread_id: int | None = None) -> None:
        # Looked up now: gevent may have replaced it after this module was imported (gunicorn's `--preload`).
        self.inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
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

    thread_id: int | None
    __slots__ = ("bound", "closing", "given", "pool")

    def __init__(self, pool: WorkerPool) -> None:
        super().__init__()
        self.pool: WorkerPool = pool
        self.closing: bool = False
        self.given: int = 0  # jobs, the running one included
        self.bound: int = 0  # requests that started on the loop and have this lane as their thread

    def put(self, job: Job) -> None:
        with self.pool.lock:
            if self in self.pool.idle:
                self.pool.idle.remove(self)
            self.give(job)
            if self.closing and self.thread_id is None:  # the pool was closed under a request that was let in
                self.start(0)

    def give(self, job: Job) -> None:
        self.given += 1
        self.inbox.put(job)

    def start(self, number: int) -> None:
        self.thread_id = 0
        threading.Thread(target=_work, args=(self,), name=f"asyncflask-worker-{number}", daemon=True).start()


class RequestLane(Lane):
    """One request's share of a worker's lane: a thread that waits for the loop serves this share only."""

    thread_id: int | None
    __slots__ = ("worker",)

    def __init__(self, worker: PoolLane) -> None:
        super().__init__(worker.thread_id)
        self.worker: PoolLane = worker

    def put(self, job: Job) -> None:
        self.inbox.put(job)
        self.worker.put(self._run_next)

    def _run_next(self) -> Callable[[], object] | None:
        self.thread_id = self.worker.thread_id
        while True:
            try:
                job = self.inbox.get_nowait()
            except queue.Empty:  # run already, while the thread waited
                return None
            if job is not None:
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

    def _reset(self) -> None:
        self.pid: int = os.getpid()
        self.lock: threading.Lock = threading.Lock()
        self.lanes: list[PoolLane] = []
        self.idle: list[PoolLane] = []
        self.backlog: deque[PoolJob] = deque()

    def submit(self, job: PoolJob) -> None:
        """Run `job(lane)` in a free thread, or queue it. Raises Overloaded."""
        self._notice_fork()
        with self.lock:
            lane = self._free_lane()
            if lane is not None:
                lane.give(partial(job, lane))
            elif self._waiting() < self.limit:
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
            else:
                if refuse and self._waiting() >= self.limit:
                    raise Overloaded
                lane = min(self.lanes, key=_load)
            lane.bound += 1
            return lane

    def release(self, lane: PoolLane) -> None:
        """A request that had chosen the lane is over."""
        with self.lock:
            lane.bound -= 1

    def _waiting(self) -> int:
        return len(self.backlog) + sum(max(lane.given - 1, 0) for lane in self.lanes)

    def close(self) -> None:
        """End the threads once they have done what they were given."""
        self._notice_fork()
        with self.lock:
            lanes, self.lanes, self.idle = self.lanes, [], []
            for lane in lanes:
                lane.closing = True
                lane.inbox.put(None)

    def _notice_fork(self) -> None:
        if self.pid != os.getpid():
            self._reset()

    def _free_lane(self) -> PoolLane | None:
        if self.idle and not self.idle[-1].bound:
            return self.idle.pop()
        lane = min(self.idle, key=_load, default=None)
        if (lane is None or lane.bound) and len(self.lanes) < self.size:
            return self._start_lane()
        if lane is not None:
            self.idle.remove(lane)
        return lane

    def _start_lane(self) -> PoolLane:
        lane = PoolLane(self)
        lane.start(len(self.lanes) + 1)
        self.lanes.append(lane)  # only now: the system may refuse a thread
        return lane

    def _take_next(self, lane: PoolLane) -> bool:
        """What a lane does after a job: its own inbox first, then the queue, else it is idle; False: it ends."""
        with self.lock:
            lane.given = lane.inbox.qsize()
            if lane.given:
                return True
            if self.backlog:
                lane.give(partial(self.backlog.popleft(), lane))
            elif lane.closing:
                lane.thread_id = None
                return False
            elif lane not in self.idle:
                self.idle.append(lane)
            return True


def _load(lane: PoolLane) -> int:
    return lane.given + lane.bound


def _work(lane: PoolLane) -> None:
    lane.thread_id = threading.get_ident()
    goes_on = True
    while goes_on:
        job = lane.inbox.get()
        tell = None if job is None else job()
        goes_on = lane.pool._take_next(lane)
        _call(tell)
        del job, tell  # an idle thread keeps nothing of its last request alive


def _call(f: Callable[[], object] | None) -> None:
    if f is not None:
        f()
