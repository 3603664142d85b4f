"""Signed sessions: texts, decisions and errors are itsdangerous', whoever wrote them."""

from __future__ import annotations

import hashlib
import json
import typing as t

import pytest
from hypothesis import given, settings, strategies as st
from itsdangerous import BadSignature, TimestampSigner, URLSafeTimedSerializer

from asyncflask.signing import SessionSerializer

SETTINGS: dict[str, dict[str, t.Any]] = {
    "session": {"key_derivation": "hmac", "digest_method": lambda data=b"": hashlib.sha1(data)},
    "sha512": {"key_derivation": "concat", "digest_method": hashlib.sha512},
    "blake2": {"key_derivation": "django-concat", "digest_method": hashlib.blake2s},
    "none": {"key_derivation": "none", "digest_method": hashlib.sha3_256},
}
NOW = 1_700_000_000


class BytesSerializer:
    """One whose text is bytes."""

    @staticmethod
    def dumps(value: t.Any) -> bytes:
        return json.dumps(value).encode()

    loads = staticmethod(json.loads)


class Keeper:
    """Takes every text; one of them it can't read."""

    @staticmethod
    def dumps(value: t.Any) -> str:
        return str(value)

    @staticmethod
    def loads(text: str) -> str:
        if "bad" in text:
            raise ValueError(text)
        return text


def make_pair(keys: t.Any = ("old", "new"), name: str = "session", serializer: t.Any = None) -> tuple[t.Any, t.Any]:
    """Ours and itsdangerous' own."""
    options = {"salt": "salt", "serializer": serializer, "signer_kwargs": SETTINGS[name]}
    return SessionSerializer(keys, **options), URLSafeTimedSerializer(keys, **options)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    moment = [NOW]
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda self: moment[0])
    return moment


def check_same(ours: t.Any, theirs: t.Any, signed: t.Any, *ages: int | None) -> None:
    for age in ages:
        assert outcome(ours, signed, age) == outcome(theirs, signed, age)


def outcome(serializer: t.Any, signed: t.Any, age: int | None) -> t.Any:
    """What came of it, in words that two may be compared by."""
    try:
        return serializer.loads(signed, age)
    except Exception as error:
        fields = [getattr(error, name, None) for name in ("payload", "date_signed", "original_error")]
        return type(error), str(error), repr(fields)


@pytest.mark.parametrize("name", SETTINGS)
@given(text=st.text() | st.text("ab", min_size=20, max_size=200), moment=st.integers(1, 2**37))
@settings(max_examples=40, deadline=None)
def test_the_text_is_itsdangerous_and_comes_back(name: str, text: str, moment: int) -> None:
    ours, theirs = make_pair(name=name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TimestampSigner, "get_timestamp", lambda self: moment)
        signed = theirs.dumps({"x": text})
        assert ours.dumps({"x": text}) == signed
        assert ours.loads(signed, max_age=5) == {"x": text}
        assert ours.loads(signed.encode()) == {"x": text}


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_what_is_wrong_fails_in_the_same_way(data: st.DataObject) -> None:
    ours, theirs = make_pair()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TimestampSigner, "get_timestamp", lambda self: NOW)
        signed = theirs.dumps(["x"])
        at = data.draw(st.integers(0, len(signed)))
        cut = data.draw(st.integers(0, 4))
        broken = signed[:at] + data.draw(st.text("AZaz09-_.=+/ \xe9", max_size=3)) + signed[at + cut :]
        check_same(ours, theirs, broken, None, 0, 9)


@pytest.mark.parametrize("passed", [-5, -1, 0, 9, 10, 11])
def test_the_age_in_seconds(clock: list[int], passed: int) -> None:
    ours, theirs = make_pair()
    signed = ours.dumps(1)
    clock[0] += passed
    check_same(ours, theirs, signed, 10, 0, None)
    assert ours.loads(signed, return_timestamp=True) == theirs.loads(signed, return_timestamp=True)


def test_keys_are_rotated() -> None:
    ours, _ = make_pair()
    old, new, other = (make_pair((key,))[0] for key in ("old", "new", "other"))
    assert ours.loads(old.dumps("x"), max_age=9) == ours.loads(new.dumps("x"), max_age=9) == "x"
    assert new.loads(ours.dumps("x"), max_age=9) == "x"
    for reader in (old, other):
        with pytest.raises(BadSignature):
            reader.loads(ours.dumps("x"), max_age=9)


@pytest.mark.parametrize("value", [b"", b"text", b".text", b"text.", b"text.!", b"text." + b"A" * 20])
def test_what_was_signed_with_the_key_but_is_no_session(value: bytes) -> None:
    ours, theirs = make_pair()
    signed = value + b"." + theirs.make_signer().get_signature(value)
    check_same(ours, theirs, signed, None, 9)


@pytest.mark.parametrize("payload", [b"bad", b"fine", b"\xff", b"x" * 50])
@pytest.mark.parametrize("encoded", [True, False])
def test_a_payload_that_cannot_be_read(payload: bytes, encoded: bool) -> None:
    ours, theirs = make_pair(serializer=Keeper)
    text = theirs.dump_payload(payload.decode("latin-1")) if encoded else payload
    signed = theirs.make_signer().sign(text)
    check_same(ours, theirs, signed, 9)


def test_another_salt_and_a_serializer_of_bytes() -> None:
    for serializer in (None, BytesSerializer):
        ours, theirs = make_pair(serializer=serializer)
        for salt in (None, "other"):
            signed = ours.dumps({"a": 1}, salt=salt)
            assert type(signed) is type(theirs.dumps({"a": 1}, salt=salt))
            assert theirs.loads(signed, 9, salt=salt) == ours.loads(signed, 9, salt=salt) == {"a": 1}
