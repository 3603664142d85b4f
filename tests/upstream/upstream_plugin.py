"""A pytest plugin for the runs on our faces: which one the test client speaks to, and which tests are skipped."""

from __future__ import annotations

from importlib.machinery import PathFinder

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--face", required=True, help="the face of the application that the test client speaks to")
    parser.addoption("--leave-out", action="append", default=[], metavar="ID=REASON", help="a test that is not run")


def pytest_configure(config: pytest.Config) -> None:
    if PathFinder.find_spec("flask") is not None:
        raise pytest.UsageError("Flask itself is installed here: what passes might be its own doing.")
    from asyncflask.testing import FlaskClient

    FlaskClient.face = config.getoption("--face")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for rule in config.getoption("--leave-out"):
        wanted, _, reason = rule.partition("=")
        for item in items:
            if item.nodeid.partition("[")[0] == wanted:
                item.add_marker(pytest.mark.skip(reason=reason))
