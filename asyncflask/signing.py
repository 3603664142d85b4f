"""itsdangerous' signed and dated texts, with the key derived once.

What these short ways do not know (an older key, another salt, anything wrong) itsdangerous decides and explains.
"""

from __future__ import annotations

import hmac
import typing as t
import zlib
from binascii import a2b_base64, b2a_base64
from functools import cached_property, lru_cache

from itsdangerous import TimestampSigner, URLSafeTimedSerializer

_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def _encode(data: bytes) -> bytes:
    """Base64 for URLs, without padding."""
    return b2a_base64(data, newline=False).translate(_TO_URL_SAFE, b"=")


def _decode(text: bytes) -> bytes:
    """The reverse. Raises ValueError."""
    return a2b_base64(text.translate(_FROM_URL_SAFE) + b"=" * (-len(text) % 4))


@lru_cache(maxsize=1)
def _encode_moment(seconds: int) -> bytes:
    return _encode(seconds.to_bytes(8, "big").lstrip(b"\x00"))


class SessionSerializer(URLSafeTimedSerializer):
    """`payload.moment.signature`: what itsdangerous writes and reads, each part in base64."""

    @cached_property
    def _signer(self) -> TimestampSigner:
        return t.cast(TimestampSigner, self.make_signer())

    @cached_property
    def _mac(self) -> hmac.HMAC:
        """Of nothing yet, with the key that signs: each signature begins with a copy."""
        return hmac.new(self._signer.derive_key(), digestmod=self._signer.digest_method)

    def _sign(self, value: bytes) -> bytes:
        mac = self._mac.copy()
        mac.update(value)
        return _encode(mac.digest())

    def dump_payload(self, obj: t.Any) -> bytes:
        if not self.is_text_serializer:
            return super().dump_payload(obj)
        text = self.serializer.dumps(obj).encode()
        compressed = zlib.compress(text)
        return b"." + _encode(compressed) if len(compressed) < len(text) - 1 else _encode(text)

    def dumps(self, obj: t.Any, salt: str | bytes | None = None) -> str:
        if salt is not None or not self.is_text_serializer:
            return super().dumps(obj, salt)
        value = self.dump_payload(obj) + b"." + _encode_moment(self._signer.get_timestamp())
        return (value + b"." + self._sign(value)).decode("ascii")

    def loads(  # type: ignore[override]  # the arguments are TimedSerializer's
        self,
        s: str | bytes,
        max_age: int | None = None,
        return_timestamp: bool = False,
        salt: str | bytes | None = None,
    ) -> t.Any:
        if max_age is not None and salt is None and not return_timestamp:
            payload = self._unsign(s.encode() if isinstance(s, str) else s, max_age)
            if payload is not None:
                return self._load(payload)
        return super().loads(s, max_age, return_timestamp, salt)

    def _load(self, payload: bytes) -> t.Any:
        if self.is_text_serializer and not payload.startswith(b"."):  # compressed
            try:
                return self.serializer.loads(_decode(payload).decode())
            except Exception:  # a tag may raise anything
                pass  # it fails again below, with the error that itsdangerous makes of it
        return self.load_payload(payload)

    def _unsign(self, signed: bytes, max_age: int) -> bytes | None:
        """The payload if the newest key signed it, at most `max_age` seconds ago; else None."""
        value, _, signature = signed.rpartition(b".")
        if not hmac.compare_digest(signature, self._sign(value)):
            return None
        payload, separator, moment = value.rpartition(b".")
        try:
            age = self._signer.get_timestamp() - int.from_bytes(_decode(moment), "big")
        except ValueError:  # signed with the same key, but not dated
            return None
        return payload if separator and 0 <= age <= max_age else None
