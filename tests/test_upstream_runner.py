"""The run of upstream tests judges rightly, and its table is well-formed. Offline: the suites run in `.ci/run`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "upstream"))

import archive
import environment
import run
import verdict
from suites import ASGI, FACES, FLASK, SUITES, WSGI, Suite

SUITE = Suite(
    "some",
    archive="some",
    version="1.0",
    sha256="0" * 64,
    tests=4,
    left_out={"tests/test_a.py::test_blocks": "would not end"},
    fails={"tests/test_a.py::test_odd[x]": "fails with Flask too"},
    fails_on_asgi={"tests/test_a.py::Group::test_wsgi": "lies in WSGI"},
)
# (class, name, outcome), as all is well on the WSGI face
CASES = (
    ("", "test_blocks[1]", "skipped"),
    ("", "test_odd[x]", "failure"),
    ("", "test_odd[y]", ""),
    (".Group", "test_wsgi", ""),
)


def write_report(path: Path, cases: Iterable[tuple[str, str, str]]) -> Path:
    written = [
        f'<testcase classname="tests.test_a{group}" name="{name}" file="tests/test_a.py" line="1">'
        f"{outcome and f'<{outcome}/>'}</testcase>"
        for group, name, outcome in cases
    ]
    path.write_text(f"<testsuites><testsuite>{''.join(written)}</testsuite></testsuites>")
    return path


def judge(tmp_path: Path, face: str, *changes: tuple[str, str, str], suite: Suite = SUITE) -> list[str]:
    cases = {case[1]: case for case in (*CASES, *changes)}
    return verdict.find_problems(suite, face, verdict.read_report(write_report(tmp_path / "x.xml", cases.values())))


# -- the table


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_row_is_well_formed(suite: Suite) -> None:
    assert len(suite.sha256) == 64 and set(suite.sha256) <= set("0123456789abcdef")
    assert suite.tests > 0 and suite.seconds > 0
    for listed in (suite.left_out, suite.fails, suite.fails_on_asgi):
        assert all(reason.strip() for reason in listed.values())
        assert all(name.startswith("tests/") and "::" in name for name in listed)
    assert not suite.left_out.keys() & {**suite.fails, **suite.fails_on_asgi}.keys()
    assert all("==" in package for package in suite.packages), "what is tested is pinned"


def test_names_are_unique_and_a_release_has_one_hash() -> None:
    assert len({suite.name for suite in SUITES}) == len(SUITES)
    releases = {suite.release for suite in SUITES}
    assert len({release[:2] for release in releases}) == len(releases)


def test_few_tests_fail_on_asgi_alone() -> None:
    assert sum(len(suite.fails_on_asgi) for suite in SUITES) <= 15


def test_only_the_run_for_comparison_installs_flask() -> None:
    assert "flask==3.1.3" in environment.plan_installs(FLASK)[0]
    bare, late = environment.plan_installs(WSGI)
    assert not any(requirement.lower().startswith("flask") for requirement in bare)
    assert late[0] == "--no-deps"


# -- the verdict


def test_all_as_listed(tmp_path: Path) -> None:
    assert judge(tmp_path, WSGI) == []
    assert judge(tmp_path, ASGI, (".Group", "test_wsgi", "failure")) == []
    assert judge(tmp_path, FLASK, ("", "test_blocks[1]", "")) == []


@pytest.mark.parametrize("outcome", ["failure", "error"])
def test_unexpected_failure(tmp_path: Path, outcome: str) -> None:
    assert judge(tmp_path, WSGI, ("", "test_odd[y]", outcome)) == ["failed: tests/test_a.py::test_odd[y]"]
    assert judge(tmp_path, WSGI, (".Group", "test_wsgi", outcome)) == ["failed: tests/test_a.py::Group::test_wsgi"]


def test_unexpected_skip(tmp_path: Path) -> None:
    assert judge(tmp_path, WSGI, ("", "test_odd[y]", "skipped")) == ["skipped: tests/test_a.py::test_odd[y]"]


def test_stale_entries(tmp_path: Path) -> None:
    assert judge(tmp_path, WSGI, ("", "test_odd[x]", "")) == ["listed, but not failed: tests/test_a.py::test_odd[x]"]
    assert judge(tmp_path, ASGI) == ["listed, but not failed: tests/test_a.py::Group::test_wsgi"]
    assert judge(tmp_path, WSGI, ("", "test_blocks[1]", "")) == [
        "listed, but not skipped: tests/test_a.py::test_blocks"
    ]
    gone = replace(SUITE, fails={**SUITE.fails, "tests/test_a.py::test_gone": "was there once"})
    assert judge(tmp_path, WSGI, suite=gone) == ["listed, but not failed: tests/test_a.py::test_gone"]


def test_an_entry_without_a_case_means_all_cases(tmp_path: Path) -> None:
    suite = replace(SUITE, fails={"tests/test_a.py::test_odd": "fails with Flask too"})
    assert judge(tmp_path, WSGI, ("", "test_odd[y]", "failure"), suite=suite) == []
    assert judge(tmp_path, WSGI, suite=suite) == ["listed, but not failed: tests/test_a.py::test_odd"]


def test_wrong_number(tmp_path: Path) -> None:
    assert judge(tmp_path, WSGI, ("", "test_new", "")) == ["5 tests instead of 4"]


def test_no_report_is_no_success(tmp_path: Path) -> None:
    outcomes = verdict.read_report(tmp_path / "missing.xml")
    assert "0 tests instead of 4" in verdict.find_problems(SUITE, WSGI, outcomes)


def test_failure_in_call_and_teardown_counts_once(tmp_path: Path) -> None:
    cases = [("", "test_odd[x]", "failure"), ("", "test_odd[x]", "error"), ("", "test_odd[y]", "")]
    outcomes = verdict.read_report(write_report(tmp_path / "x.xml", cases))
    assert verdict.count(outcomes) == {"failed": 1, "passed": 1}


# -- the report


def test_last_line_sums_up(tmp_path: Path) -> None:
    outcomes = verdict.read_report(write_report(tmp_path / "x.xml", CASES))
    good = run.Run(SUITE, outcomes, [], 1.0, "chatter")
    assert run.report([good, good]).splitlines()[-1] == "passed 4 failed 2 skipped 2"
    assert "chatter" not in run.report([good])
    bad = run.Run(SUITE, outcomes, ["failed: tests/test_a.py::test_x"], 1.0, "chatter")
    assert "chatter" in run.report([bad]) and "failed: tests/test_a.py::test_x" in run.report([bad])


@pytest.mark.parametrize(("problems", "code"), [([], 0), (["failed: tests/test_a.py::test_x"], 1)])
def test_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], problems: list[str], code: int
) -> None:
    monkeypatch.setattr(run, "prepare", lambda face: Path(sys.executable))
    monkeypatch.setattr(run, "fetch", lambda *release: Path("archive"))
    monkeypatch.setattr(run, "run", lambda suite, *rest: run.Run(suite, {"a": "passed"}, problems, 0.1))
    assert run.main(["--face", "wsgi", "flask-login", "flask"]) == code
    assert capsys.readouterr().out.splitlines()[-1] == "passed 2 failed 0 skipped 0"


def test_suite_that_does_not_end_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert run.run_tests(command, tmp_path, {}, seconds=0.5) == (True, "")


@pytest.mark.parametrize("face", FACES)
def test_command_installs_the_alias_for_our_faces(face: str) -> None:
    command = run.make_command(SUITE, face, Path("python"), Path("junit.xml"))
    assert ("asyncflask.as_flask" in command) is (face != FLASK)
    assert ("--leave-out=tests/test_a.py::test_blocks=would not end" in command) is (face != FLASK)


# -- downloads


def test_archive_with_another_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, version: str, folder: Path) -> Path:
        path = folder / f"{name}-{version}.tar.gz"
        path.write_bytes(b"content")
        return path

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(archive, "download", download)
    with pytest.raises(RuntimeError, match="sha256"):
        archive.fetch("some", "1.0", "0" * 64)
    digest = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    kept = archive.fetch("some", "1.0", digest)
    assert kept.read_bytes() == b"content" and kept.is_relative_to(tmp_path)
    monkeypatch.delattr(archive, "download")
    assert archive.fetch("some", "1.0", digest) == kept
