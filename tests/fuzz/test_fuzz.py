"""The kept inputs, and a few that Hypothesis puts together: what `python -m tests.fuzz` does for longer."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from .__main__ import CORPUS, fuzz_at_random
from .targets import TARGETS, Site, grow
from .words import WORDS

INPUTS = [f"{target}/{path.name}" for target in TARGETS for path in sorted((CORPUS / target).glob("*"))]
SMALL, LARGE = 1 << 13, 1 << 16


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


def test_each_target_has_words_and_a_small_corpus() -> None:
    assert list(WORDS) == list(TARGETS)
    for target in TARGETS:
        sizes = [path.stat().st_size for path in (CORPUS / target).glob("*")]
        assert 5 < len(sizes) < 60 and max(sizes) < 2_000


@pytest.mark.parametrize("name", INPUTS)
def test_kept_input(site: Site, name: str) -> None:
    TARGETS[name.partition("/")[0]](site, (CORPUS / name).read_bytes())


@pytest.mark.blocks_loop("it measures inputs of 64 KiB, which come in pieces of one byte, or are all to be quoted")
@pytest.mark.parametrize("target", list(TARGETS))
def test_time_is_linear(site: Site, target: str) -> None:
    """Each kept input again and again: eight times as much takes not much more than eight times as long."""
    for path in (CORPUS / target).glob("*"):
        assert any(is_linear(site, target, path.read_bytes()) for _ in range(3)), path.name


def is_linear(site: Site, target: str, data: bytes) -> bool:
    small, large = (spend(site, target, grow(data, size)) for size in (SMALL, LARGE))
    return large < 0.05 + 3 * LARGE / SMALL * small


def spend(site: Site, target: str, data: bytes) -> float:
    begun = time.process_time()
    TARGETS[target](site, data)
    return time.process_time() - begun


@pytest.mark.parametrize("target", list(TARGETS))
def test_made_inputs(site: Site, target: str) -> None:
    words = st.sampled_from(WORDS[target])
    text = st.lists(st.one_of(words, words, st.binary(max_size=3)), max_size=20).map(b"".join)

    @settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.tuples(st.binary(min_size=1, max_size=1), st.sampled_from([b"", b"b\n", b"\n"]), text).map(b"".join))
    def run(data: bytes) -> None:
        TARGETS[target](site, data)

    run()


def test_fuzzing_notes_what_fails(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(site: Site, data: bytes) -> None:
        if random.Random(data).random() < 0.5:
            raise LookupError("found")

    monkeypatch.setitem(TARGETS, "host", fail)
    fuzz_at_random("host", tmp_path, 0.2)
    (found,) = (path for path in (tmp_path / "host-found").iterdir() if path.suffix == "")
    assert found.name.startswith("LookupError-test_fuzz-")
    with pytest.raises(LookupError):
        fail(site, found.read_bytes())
    assert "LookupError" in found.with_suffix(".txt").read_text() and "inputs in" in capsys.readouterr().out
