"""One file that says `from flask import …` answers the same by real Flask and by each way to serve it here."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "contract"))  # the helpers for real servers

from contract_message import HOST, Answer
from same.comparing import find_differences
from same.differences import DIFFERENCES
from same.questions import Step, make_cases, make_mounted_cases, make_proxied_cases
from same.site_servers import HERE, ON_GUNICORN, PREFIX, REFERENCE, SiteServer, play_everywhere, serve_everywhere

Answers = dict[str, list[Answer]]
ASGI = {"asyncflask run", "uvicorn"}
NOTICE = "app.asgi_app"  # the ASGI way, named in one line of the log where app.wsgi_app is wrapped
FORWARDED = (
    ("X-Forwarded-For", "203.0.113.1, 192.0.2.7"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "outside.test"),
    ("X-Forwarded-Prefix", "/pre"),
)


def test_same_answers(tmp_path: Path) -> None:
    cases = make_cases()
    with serve_everywhere("flask_site", tmp_path) as servers:
        check_identities(servers)
        assert (tmp_path / "flask_site.py").read_bytes() == (HERE / "flask_site.py").read_bytes()
        answers = play_everywhere(servers, cases)
        logged = {name: leave_out_streams(server.read_exceptions()) for name, server in servers.items()}
        assert [name for name, server in servers.items() if NOTICE in server.read_log()] == []
    assert all(seen == logged[REFERENCE] for seen in logged.values()), logged
    check_that_much_was_asked(answers[REFERENCE])
    found = compare(answers)
    new = [f"{server}: {case}: {how}" for (server, case), how in found.items() if (server, case) not in DIFFERENCES]
    assert not new, f"{len(new)} differences:\n" + "\n".join(new[:20])
    assert not (gone := DIFFERENCES.keys() - found.keys()), f"No difference any more: {gone}"


def leave_out_streams(logged: Counter[str]) -> Counter[str]:
    """Under WSGI the server alone tells of an error in a stream; over ASGI the application does so too."""
    return Counter({line: times for line, times in logged.items() if not line.startswith("Exception on /stream/")})


def check_identities(servers: Mapping[str, SiteServer]) -> None:
    """Each is what it is said to be: by Flask or asyncflask, over WSGI or ASGI, not in debug mode."""
    for name, server in servers.items():
        identity = server.get("/identity").json
        package = "flask" if name in (REFERENCE, ON_GUNICORN) else "asyncflask"
        assert Path(identity["file"]).parent.name == package, (name, identity)
        assert (identity["asgi"], identity["debug"]) == (name in ASGI, False), (name, identity)


def check_that_much_was_asked(reference: Answers) -> None:
    """The table has not shrunk to a few kinds of answers."""
    statuses = Counter(answer.status for answers in reference.values() for answer in answers)
    assert statuses.total() > 600, statuses
    assert {200, 201, 204, 206, 302, 303, 304, 308, 400, 404, 405, 409, 413, 415, 416, 418, 500, 503} <= statuses.keys()


def compare(answers: dict[str, Answers]) -> dict[tuple[str, str], str]:
    """By server and case: how an answer is not `flask run`'s, nor, under gunicorn, Flask's there."""
    reference, on_gunicorn = answers.pop(REFERENCE), answers.pop(ON_GUNICORN)
    found = {(name, case): how for name, seen in answers.items() for case, how in find_differences(seen, reference)}
    others = dict(find_differences(answers["gunicorn"], on_gunicorn))
    return {(name, case): how for (name, case), how in found.items() if name != "gunicorn" or case in others}


def test_same_answers_below_a_path(tmp_path: Path) -> None:
    with serve_everywhere("flask_site", tmp_path, mounted=True) as servers:
        check_identities(servers)
        answers = play_everywhere(servers, make_mounted_cases())
    reference = answers.pop(ON_GUNICORN)
    assert reference["GET /folder"][0].get("Location") == f"http://{HOST}{PREFIX}/folder/"
    assert [*find_differences(answers["gunicorn"], reference)] == []
    assert [*find_differences(answers["uvicorn"], reference)] == []


def test_wsgi_middleware_over_asgi(tmp_path: Path) -> None:
    cases = make_proxied_cases(FORWARDED)
    with serve_everywhere("proxied_site", tmp_path) as servers:
        check_identities(servers)
        for server in servers.values():
            check_proxied(server)
        answers = play_everywhere(servers, cases)
        notices = {name: server.read_log().count(NOTICE) for name, server in servers.items()}
    assert notices == {name: int(name in ASGI) for name in servers}
    assert not compare(answers)


def check_proxied(server: SiteServer) -> None:
    """What the forwarded request looks like; the layers ran from the outer to the inner one, and back."""
    (answer,) = server.play([Step("GET", "/seen?q=1", FORWARDED)])
    seen = answer.json
    assert seen["url"] == "https://outside.test/pre/seen?q=1"
    assert (seen["remote_addr"], seen["is_secure"], seen["script_root"]) == ("192.0.2.7", True, "/pre")
    assert seen["links"][1] == "https://outside.test/pre/seen"
    assert (seen["layers"], answer.all("X-Layer")) == (["outer", "inner"], ["inner", "outer"])
