"""The soak test's parts run and find nothing wrong, if only for seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from live_server import require

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 120


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it reads /proc")
def test_quick_run_finds_nothing_wrong() -> None:
    require("uvloop")
    require("httptools")
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--quick"], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for title in ("Mix", "Crowd", "Worker threads", "SIGTERM"):
        assert f"### {title}" in done.stdout
