"""When two answers are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from functools import partial

from contract_message import Answer
from itsdangerous import URLSafeTimedSerializer

SECRET_KEY = "the same everywhere"
# Theirs to say, not the application's:
SERVERS_OWN = {
    "date",  # the moment of the answer
    "server",  # its own name
    "connection",  # whether it will read another request; `flask run` never does
    "transfer-encoding",  # how it marks the end of a body of unknown length
}
# A moment from now on is compared by its distance from the answer's Date, in whole units of this: the servers answer at
# different times, and one that keeps its Date for a second is a second off.
SECONDS = 60

# Flask's session cookie: payload, time of signing, signature.
_serializer = partial(
    URLSafeTimedSerializer,
    salt="cookie-session",
    signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha1},
)


def normalise(answer: Answer) -> tuple[int, dict[str, list[str]], bytes]:
    """Status, body, and values by header name in their order. Reason phrases are left out: ASGI has none."""
    headers: dict[str, list[str]] = {}
    for name, value in answer.headers:
        if name not in SERVERS_OWN:
            headers.setdefault(name, []).append(_normalise_value(name, value, answer))
    return answer.status, headers, answer.body


def _normalise_value(name: str, value: str, answer: Answer) -> str:
    if name == "expires":
        return _relate_date(value, answer)
    if name == "set-cookie":
        pair, *attributes = value.split("; ")
        return "; ".join([_open_session(pair), *(_relate_expiry(attribute, answer) for attribute in attributes)])
    return value


def _relate_date(value: str, answer: Answer) -> str:
    units = round((_read_date(value) - _read_date(answer.get("Date"))) / SECONDS)
    return value if units < 0 else f"in {units * SECONDS} seconds"


def _read_date(value: str | None) -> float:
    assert value is not None
    return parsedate_to_datetime(value).timestamp()


def _relate_expiry(attribute: str, answer: Answer) -> str:
    name, _, value = attribute.partition("=")
    return f"{name}={_relate_date(value, answer)}" if name == "Expires" else attribute


def _open_session(pair: str) -> str:
    """The session's payload alone, once it is verified: the rest tells when it was signed."""
    name, _, signed = pair.partition("=")
    if name != "session" or not signed:
        return pair
    _serializer(SECRET_KEY).loads(signed)
    return f"session=signed {signed.rsplit('.', 2)[0]}"


def find_differences(
    answers: Mapping[str, Sequence[Answer]], expected: Mapping[str, Sequence[Answer]]
) -> Iterator[tuple[str, str]]:
    """Cases in which a server's answers are not the reference's, and how."""
    for case, reference in expected.items():
        for number, (ours, theirs) in enumerate(zip(answers[case], reference, strict=True)):
            if ours != theirs and (seen := normalise(ours)) != (wanted := normalise(theirs)):
                yield case, f"step {number}\n    seen:     {shorten(seen)}\n    expected: {shorten(wanted)}"
                break


def shorten(answer: tuple[int, dict[str, list[str]], bytes]) -> str:
    status, headers, body = answer
    return f"{status} {headers} {len(body)} bytes {body[:1500]!r}"
