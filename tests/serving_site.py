"""What test_lifespan and test_background serve on real servers. Each line that it prints names its process."""

from __future__ import annotations

import os
import time

import anyio

from asyncflask import Flask, current_app

app = Flask("serving_site")
app.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] = 0.4
if "EARLY" in os.environ:
    _ = app.shutdown_event


def say(event):
    print(f"{os.getpid()} {event}", flush=True)


@app.before_serving
async def before():
    say("before")
    if os.environ.get("FAIL") == "startup":
        raise ValueError("no database")
    current_app.serving_state["pid"] = os.getpid()


@app.while_serving
def life():
    say("enter")
    yield
    say("leave")
    if os.environ.get("FAIL") == "shutdown":
        raise ValueError("no database")


@app.after_serving
async def after():
    say("after")


@app.get("/")
def index():
    assert app.serving_state["pid"] == os.getpid()
    return str(os.getpid())


@app.get("/ends")
async def ends():
    return str(app.shutdown_event.is_set())


@app.get("/async")
async def stream():
    async def pieces():
        yield f"{os.getpid()}\n"
        while not app.shutdown_event.is_set():  # noqa: ASYNC110  # as people write it
            await anyio.sleep(0.02)
        yield "end\n"

    return pieces()


@app.get("/waiting")
async def waiting_stream():
    async def pieces():
        yield f"{os.getpid()}\n"
        await app.shutdown_event.wait()
        yield "end\n"

    return pieces()


@app.get("/sync")
def sync_stream():
    def pieces():
        yield f"{os.getpid()}\n"
        while not app.shutdown_event.is_set():
            time.sleep(0.02)
        yield "end\n"

    return pieces()


@app.get("/tasks")
def begin_tasks():
    async def quick():
        await anyio.sleep(0.1)
        say("quick is done")

    async def slow():
        await anyio.sleep(60)

    def stuck():
        time.sleep(60)

    for task in (quick, slow, stuck):
        app.add_background_task(task)
    return "begun"
