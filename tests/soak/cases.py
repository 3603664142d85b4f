"""The requests of the mix: their bytes, how often each is sent, and the answer it must have."""

from __future__ import annotations

import typing as t

BROWSER = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\nAccept-Language: en-GB\r\n"
)
BOUNDARY = "----soak"
FILE = b"a small file of some bytes\r\n" * 50
PIECES = b"0123456789abcdef" * 16 * 4
AT_ONCE, SOON, AMID_ANSWER = "at once", "soon", "amid the answer"


class Case(t.NamedTuple):
    """`weight` is a share of 1,000. A body of None may be any. `leaves` says when the client goes; "" is never."""

    name: str
    weight: int
    request: bytes
    status: int = 200
    body: bytes | None = None
    leaves: str = ""


def get(target: str, *headers: str, method: str = "GET") -> bytes:
    lines = "".join(f"{header}\r\n" for header in headers)
    return f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{BROWSER}{lines}\r\n".encode()


def upload(target: str) -> bytes:
    name = 'Content-Disposition: form-data; name="{}"'
    title = f"--{BOUNDARY}\r\n{name.format('title')}\r\n\r\nA title\r\n"
    file = f"--{BOUNDARY}\r\n{name.format('file')}; filename=a.txt\r\nContent-Type: text/plain\r\n\r\n"
    body = f"{title}{file}".encode() + FILE + f"\r\n--{BOUNDARY}--\r\n".encode()
    kind = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
    return get(target, kind, f"Content-Length: {len(body)}", method="POST") + body


def make_mix(cookie: str, page: bytes) -> list[Case]:
    """`page` is what a visitor with this cookie sees."""
    uploaded = b'{"size":%d,"title":"A title"}\n' % len(FILE)
    return [
        Case("async", 280, get("/async"), body=b'{"view":"async"}\n'),
        Case("sync", 200, get("/sync"), body=b'{"view":"sync"}\n'),
        Case("page with session", 150, get("/page", f"Cookie: {cookie}"), body=page),
        Case("upload, async", 60, upload("/upload/async"), body=uploaded),
        Case("upload, sync", 60, upload("/upload/sync"), body=uploaded),
        Case("stream, async", 50, get("/stream/async/4"), body=PIECES),
        Case("stream, sync", 50, get("/stream/sync/4"), body=PIECES),
        Case("404", 80, get("/missing"), 404),
        Case("405", 40, get("/async", "Content-Length: 0", method="PUT"), 405),
        Case("500, async", 10, get("/boom/async"), 500),
        Case("500, sync", 10, get("/boom/sync"), 500),
        *make_leavers(),
    ]


def make_leavers() -> list[Case]:
    """1 % of the requests."""
    rows = []
    for style in ("async", "sync"):
        whole = upload(f"/upload/{style}")
        rows += [
            Case(f"left amid the body, {style}", 1, whole[: -len(FILE) // 2], leaves=AT_ONCE),
            Case(f"left amid the body, {style}", 1, whole[: -len(FILE) // 2], leaves=SOON),
            Case(f"left without waiting, {style}", 1, get(f"/{style}"), leaves=AT_ONCE),
            Case(f"left amid the answer, {style}", 1, get(f"/stream/{style}/100"), leaves=AMID_ANSWER),
            Case(f"left amid the view, {style}", 1, get(f"/sleep/{style}/0.01"), leaves=SOON),
        ]
    return rows
