"""Fixtures for pytest, on an `app` fixture of the project's own; for those who name this module in `pytest_plugins`.

No entry point loads it: in an environment with several projects it would import asyncflask for all of them, and its
`client` would take the place of another plug-in's.
"""

from __future__ import annotations

import typing as t

import pytest

if t.TYPE_CHECKING:
    from .app import Flask
    from .async_testing import AsyncClient
    from .testing import FlaskClient


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A test client of the `app` fixture."""
    return app.test_client()


@pytest.fixture
def async_client(app: Flask) -> AsyncClient:
    """A test client of the `app` fixture to be awaited, whatever runs the project's async tests."""
    return app.async_test_client()
