"""What scaling.py serves: `benchmarks.scaling_app:app`; the variable WORKER_THREADS sets what its name says."""

from __future__ import annotations

import asyncio
import os
import time

from asyncflask import Flask, session

WAITED = 0.05  # what a query or a call of another service may take
COMPUTED = 60_000  # a sum over so many numbers, about a millisecond


def make_app() -> Flask:
    app = Flask(__name__)
    app.secret_key = "a secret of the benchmark"
    app.config["WORKER_THREADS"] = int(os.environ.get("WORKER_THREADS", "40"))

    @app.get("/hello/<name>")
    async def hello(name: str) -> dict[str, str]:
        return {"hello": name}

    @app.get("/hello-sync/<name>")
    def hello_sync(name: str) -> dict[str, str]:
        return {"hello": name}

    @app.get("/compute")
    def compute() -> str:
        return str(sum(range(COMPUTED)))

    @app.get("/compute-async")
    async def compute_async() -> str:
        return str(sum(range(COMPUTED)))

    @app.get("/wait")
    async def wait() -> str:
        await asyncio.sleep(WAITED)
        return "done"

    @app.get("/wait-sync")
    def wait_sync() -> str:
        time.sleep(WAITED)
        return "done"

    @app.get("/count")
    async def count() -> str:
        """The session is read and written."""
        session["count"] = session.get("count", 0) + 1
        return "done"

    @app.get("/read")
    async def read() -> str:
        return str(session.get("count", 0))

    return app


app = make_app()
