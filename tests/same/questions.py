"""What the site is asked: named cases of one step, or of several with the cookies carried over."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

Headers = tuple[tuple[str, str], ...]


class Step(NamedTuple):
    """A request. With `until` it is repeated until the body has these bytes, for what ends after its answer."""

    method: str
    target: str
    headers: Headers = ()
    body: bytes = b""
    chunked: bool = False
    until: bytes = b""


Cases = Iterator[tuple[str, list[Step]]]
GROUPS: list[Callable[[], Cases]] = []


def group(function: Callable[[], Cases]) -> Callable[[], Cases]:
    GROUPS.append(function)
    return function


def make_cases() -> dict[str, list[Step]]:
    """All cases by "group name", which is unique."""
    cases: dict[str, list[Step]] = {}
    for function in GROUPS:
        for name, steps in function():
            key = f"{function.__name__} {name}"
            assert key not in cases, key
            cases[key] = steps
    return cases


def ask_each(targets: Iterable[str], method: str = "GET", **more: object) -> Cases:
    for target in targets:
        yield f"{method} {target}", [Step(method, target, **more)]


def spread(pattern: str, values: str) -> list[str]:
    return [pattern.format(value) for value in values.split()]


RETURNS = (
    "str bytes bytearray empty status status-text headers header-list all dict list dict-status response"
    " response-in-tuple custom-class subclass-in-tuple wsgi exception generator iterator no-content no-content-body"
    " not-modified reset-content none number long-tuple bad-status made markup json-etag direct pieces cached"
    " content-length charset no-type big unknown"
)
PAGES = [
    *("/", "/page/about", "/page/nowhere", "/template-text", "/template-macro", "/template-missing", "/login"),
    *("/de/shop/", "/en/shop/item/3", "/de/shop/parts/a/b", "/urls", "/urls/none", "/json-values", "/after-this"),
    *("/static/css/site.css", "/static/empty.txt", "/static/one.bin", "/static/middle.bin", "/static/big.bin"),
    *("/static/gr%C3%BCn.txt", "/de/shop/css/site.css", "/de/shop/css/nothing"),
    *("/cookies/set", "/cookies/delete", "/cookies/show"),
    *spread("/stream/{}", "text bytes empty blanks length request template status"),
    *spread("/file/{}", "memory conditional attachment max-age path big no-etag missing nameless"),
    *("/redirect-absolute", "/abort-response", "/notes/", "/notes/one", "/shout", "/own-options", "/no-options"),
    *("/both", "/head", "/folder/", "/leaf", "/download/css/site.css", "/download/css/site.css?save"),
]
FORM = (("Content-Type", "application/x-www-form-urlencoded"),)
JSON = (("Content-Type", "application/json"),)


@group
def pages() -> Cases:
    yield from ask_each(PAGES)
    yield from ask_each(spread("/returns/{}", RETURNS))


@group
def heads() -> Cases:
    yield from ask_each([*PAGES, *spread("/returns/{}", "str dict wsgi no-content big generator iterator")], "HEAD")


@group
def methods() -> Cases:
    targets = ["/", "/notes/", "/shout", "/own-options", "/no-options", "/head", "/both", "/form", "/echo", "/nowhere"]
    yield from ask_each([*targets, "/folder/", "/static/css/site.css", "/de/shop/parts/x", "*"], "OPTIONS")
    yield from ask_each(["/notes/", "/notes/k", "/shout", "/leaf", "/both", "/nowhere"], "POST", body=b"text")
    yield from ask_each(["/notes/", "/notes/k", "/de/shop/", "/spares/x"], "DELETE")
    yield from ask_each(["/shout", "/notes/", "/echo"], "PUT", body=b"put")
    yield from ask_each(["/echo", "/leaf"], "PATCH", body=b"patch")
    yield from ask_each(["/echo", "/leaf"], "PROPFIND")
    yield from ask_each(["/leaf"], "TRACE")
    yield from ask_each(["/leaf"], "BREW")
    yield from ask_each(["/leaf"], "get")


PATHS = """
/int/7 /int/007 /int/-1 /int/x /int/1.5 /int/%37 /int/short/007 /int/short/7 /int/range/3 /int/range/10
/int/signed/-4 /int/signed/4 /float/1.5 /float/1 /float/signed/-1.5 /any/red /any/dark%20green /any/blue
/uuid/00000000-0000-0000-0000-000000000007 /uuid/7 /two/ab /two/abc /word/abcde
/list/a+b /list/a%2Bb /list/%C3%BC+c /text/a%20b /text/a+b /text/a%2Fb /text/
/text/%E2%98%83 /text/%FF%FE /text/%00 /text/% /text/%zz /text/a;b=c /text/.
/deep/a/b /deep/a//b /deep/a/../b /deep/a/./b /deep/ /deep/a/ /deep/%2e%2e/x
/folder /folder?a=%C3%BC&b /leaf/ /relaxed /relaxed/ //leaf /leaf// /folder// //evil.test/%2e%2e /\\evil.test/
/year/2024/1/ /year/2024/2/ /year/2024/2 /year/2024 /year/2024/ /moved/5
/gr%C3%BCn/%C3%9F?q=%C3%BC /gr%c3%bcn/x /gr%FCn/x /nowhere /nowhere/%E2%98%83 /LEAF
/static/ /static/nothing.css /static/../flask_site.py /static/%2e%2e/flask_site.py
/download/../x /download/nothing /download//etc/passwd /de/shop /de/shop/item/99
/spares/x /spares/gone /de/shop/parts/gone /de/shop/nowhere /de//shop/
http://other.test:81/echo/x?y=1 https://other.test/echo /leaf#part /echo/?a#b
/text/^{}|%60 /text/"<> /echo//twice /text/a:b@c,d$e!'()*~
"""


@group
def paths() -> Cases:
    yield from ask_each(PATHS.split())
    yield "long", [Step("GET", "/text/" + "x" * 2000)]


@group
def echoes() -> Cases:
    queries = ["", "?", "?a=1&a=2&b", "?q=%C3%BC+%2B%20x", "?%FF=%FE", "?a=b=c&&;d", "?q=a?b/c", "?x=%0d%0a", "?='\"<>"]
    yield from ask_each([f"/echo/some/thing{query}" for query in queries])
    yield from ask_each(["/environ/a%20b/%C3%BC?x=%20y&%C3%BC", "/environ/x?", "/environ/%2F%25"])
    yield from ask_each(["/args?needed=1", "/args", "/args?page=x&needed=", "/args?tag=a&tag=b&needed=2&page=3"])
    for name, headers in HEADERS.items():
        yield name, [Step("GET", "/echo/h", headers)]


HEADERS: dict[str, Headers] = {
    "twice": (("X-Twice", "1"), ("X-Other", "o"), ("x-twice", "2"), ("X-TWICE", "3, 4")),
    "accept": (
        ("Accept", "text/html;q=0.5, application/json, */*;q=0.1"),
        ("Accept-Language", "de-DE, en;q=0.5"),
        ("Accept-Encoding", "gzip, br;q=0.2"),
        ("Accept-Charset", "utf-8"),
        ("User-Agent", "Test/1.0 (like nothing)"),
        ("Referer", "http://elsewhere.test/x"),
        ("Origin", "http://elsewhere.test"),
    ),
    "conditions": (
        ("If-Match", '"a", "b"'),
        ("If-None-Match", 'W/"c"'),
        ("If-Modified-Since", "Thu, 29 Feb 2024 12:30:00 GMT"),
        ("If-Unmodified-Since", "yesterday"),
        ("If-Range", '"d"'),
        ("Range", "bytes=0-4,-3"),
        ("Cache-Control", "no-cache, max-age=0"),
        ("Pragma", "no-cache"),
        ("Max-Forwards", "3"),
        ("Date", "Thu, 29 Feb 2024 12:30:00 GMT"),
    ),
    "host-port": (("Host", "site.test:8080"),),
    "host-80": (("Host", "site.test:80"),),
    "host-case": (("Host", "SITE.Test"),),
    "host-ipv6": (("Host", "[::1]:5000"),),
    "host-unicode": (("Host", "xn--grn-hoa.test"),),
    "host-bad": (("Host", "bad host/x"),),
    "host-underscore": (("Host", "a_b.test"),),
    "host-empty": (("Host", ""),),
    "basic": (("Authorization", "Basic YW5uOnDDpHNz"),),
    "bearer": (("Authorization", "Bearer abc.def=="),),
    "digest": (("Authorization", 'Digest username="ann", realm="r", nonce="n"'),),
    "odd-authorization": (("Authorization", "nonsense"),),
    "latin": (("X-Latin", "gr\xfcn"), ("X-Utf", "gr\xc3\xbcn")),
    "blank": (("X-Blank", ""), ("X-Spaces", "  a  b  "), ("X-Tab", "a\tb")),
    "underscore": (("X_Under_Score", "1"), ("X-Under", "2"), ("Content_Length", "5")),
    "digits": (("X-2fast-4you", "1"), ("x3", "y")),
    "cookies": (("Cookie", 'a=1; b="two; x"; a=3; c=%C3%BC; d; =e; f=g=h'),),
    "cookies-twice": (("Cookie", "a=1"), ("Cookie", "b=2")),
    "cookies-latin": (("Cookie", "a=gr\xfcn; b=gr\xc3\xbcn"),),
    "content": (("Content-Type", 'Text/Plain; Charset="latin-1"; x=y'), ("Content-Length", "0")),
    "encoding": (("Content-Encoding", "gzip"), ("Content-Md5", "x"), ("TE", "trailers")),
    "cors": (("Access-Control-Request-Method", "PUT"), ("Access-Control-Request-Headers", "x-a, x-b")),
    "forwarded": (
        ("X-Forwarded-For", "192.0.2.7"),
        ("X-Forwarded-Host", "outside.test"),
        ("X-Forwarded-Prefix", "/pre"),
        ("X-Real-Ip", "192.0.2.8"),
    ),
    "forwarded-https": (("X-Forwarded-Proto", "https"),),
    "many": tuple((f"X-Number-{number}", str(number)) for number in range(60)),
    "long": (("X-Long", "y" * 6000),),
    "upgrade": (("Connection", "Upgrade"), ("Upgrade", "h2c")),
    "keep-alive": (("Connection", "keep-alive"),),
    "websocket": (
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ),
}


@group
def bodies() -> Cases:
    large = b"line of text \xc3\xbc\n" * 20_000
    small = b"three\nshort\nlines"
    for how, chunked in itertools.product("data text stream lines twice data-first unread some".split(), (False, True)):
        yield f"{how} small{' chunked' * chunked}", [Step("POST", f"/body/{how}", body=small, chunked=chunked)]
    for how in ("data", "stream", "lines"):
        yield f"{how} large", [Step("POST", f"/body/{how}", body=large)]
        yield f"{how} large chunked", [Step("POST", f"/body/{how}", body=large, chunked=True)]
        yield f"{how} none", [Step("POST", f"/body/{how}")]
    yield "form-first", [Step("POST", "/body/form-first", FORM, b"a=1&b=2")]
    yield "data-first form", [Step("POST", "/body/data-first", FORM, b"a=1&b=2")]
    yield "GET with body", [Step("GET", "/echo/b", body=b"in a GET")]
    yield "DELETE with body", [Step("DELETE", "/echo/b", body=b"in a DELETE")]
    yield "no route for it", [Step("POST", "/nowhere", body=small)]
    yield "unknown way", [Step("POST", "/body/unknown", body=small)]
    yield "expect", [Step("POST", "/body/data", (("Expect", "100-continue"),), small)]
    yield "fits", [Step("POST", "/limited/5", body=b"12345")]
    yield "too large", [Step("POST", "/limited/5", body=b"123456")]
    yield "fits chunked", [Step("POST", "/limited/5", body=b"12345", chunked=True)]
    yield "too large chunked", [Step("POST", "/limited/5", body=b"123456", chunked=True)]
    yield "length no number", [Step("POST", "/echo", (("Content-Length", "abc"),))]
    yield "two lengths", [Step("POST", "/echo", (("Content-Length", "4"), ("Content-Length", "5")), b"12345")]


def make_multipart(*parts: tuple[str, bytes]) -> tuple[Headers, bytes]:
    """Content-Disposition (and more headers), and the data of each part."""
    start = "--limit\r\nContent-Disposition: form-data; "
    pieces = [f"{start}{head}\r\n\r\n".encode() + data + b"\r\n" for head, data in parts]
    return (("Content-Type", "multipart/form-data; boundary=limit"),), b"".join([*pieces, b"--limit--\r\n"])


@group
def forms() -> Cases:
    for name, body in {
        "plain": b"a=1&a=2&b=x+y%20z&c=",
        "unicode": "n=%C3%BC&ü=ß".encode(),
        "broken": b"a=%FF&%&=&&b",
        "empty": b"",
        "large value": b"v=" + b"x" * 400_000,
        "too large in memory": b"v=" + b"x" * 600_000,
        "many": b"&".join(b"n%d=%d" % (n, n) for n in range(2000)),
    }.items():
        for method in ("POST", "PUT"):
            yield f"{method} {name}", [Step(method, "/form?q=1", FORM, body)]
    yield "chunked", [Step("POST", "/form", FORM, b"a=1&b=2", chunked=True)]
    yield "no type", [Step("POST", "/form", (), b"a=1&b=2")]
    yield "charset", [Step("POST", "/form", (("Content-Type", f"{FORM[0][1]}; charset=latin-1"),), b"a=%FC")]
    yield "no key", [Step("POST", "/form/key", FORM, b"other=1")]
    yield "key", [Step("POST", "/form/key", FORM, b"key=%3Cvalue%3E")]


@group
def uploads() -> Cases:
    text = ('name="title"', "grün".encode())
    file = ('name="file"; filename="a b.txt"\r\nContent-Type: text/plain; charset=utf-8\r\nX-Part: 1', b"file\r\ntext")
    big = ('name="file"; filename="big.bin"\r\nContent-Type: application/octet-stream', bytes(range(256)) * 4096)
    odd = ('name="file"; filename="grün.txt"; filename*=UTF-8\'\'gr%C3%BCn.txt', b"odd")
    nameless = ('name="file"; filename=""\r\nContent-Type: application/octet-stream', b"")
    for name, parts in {
        "text": [text],
        "file": [file],
        "both": [text, file, text, file],
        "big": [big, text],
        "odd name": [odd],
        "none chosen": [nameless],
        "too many parts": [text] * 21,
        "none": [],
    }.items():
        headers, body = make_multipart(*parts)
        yield name, [Step("POST", "/form", headers, body)]
    for name, parts in {"file": [file], "big": [big], "missing": [text], "odd name": [odd]}.items():
        headers, body = make_multipart(*parts)
        yield f"saved {name}", [Step("POST", "/form/file", headers, body)]
    headers, body = make_multipart(file, big)
    yield "chunked", [Step("POST", "/form", headers, body, chunked=True)]
    yield "cut short", [Step("POST", "/form", headers, body[:100])]
    yield "no boundary", [Step("POST", "/form", (("Content-Type", "multipart/form-data"),), body[:100])]


@group
def jsons() -> Cases:
    values = [{"a": [1, 2.5, None, True], "ü": "☃"}, [], "text", 5, None]
    for value in values:
        body = json.dumps(value).encode()
        yield f"POST {body.decode()}", [Step("POST", "/json", JSON, body)]
    for name, body in {"bad": b"{a}", "empty": b"", "latin": b'"gr\xfcn"', "utf-16": '"ü"'.encode("utf-16")}.items():
        yield name, [Step("POST", "/json", JSON, body)]
        for how in ("force", "silent", "cache"):
            yield f"{name} {how}", [Step("POST", f"/json/{how}", JSON, body)]
    yield "no type", [Step("POST", "/json", (), b"{}")]
    yield "no type force", [Step("POST", "/json/force", (), b"{}")]
    yield "no type silent", [Step("POST", "/json/silent", (), b"{}")]
    yield "vendor", [Step("POST", "/json", (("Content-Type", "application/vnd.x+json; v=1"),), b"{}")]
    yield "large", [Step("POST", "/json", JSON, json.dumps(["text"] * 50_000).encode())]
    yield "chunked", [Step("POST", "/json", JSON, b'{"a": 1}', chunked=True)]
    yield "GET", [Step("GET", "/json")]
    yield from ask_each(spread("/json-forms/{}", "list empty args none text unknown"))


@group
def errors() -> Cases:
    codes = "400 401 402 403 404 405 406 408 409 410 411 412 413 414 415 416 417 418 421 422 423 424 428 429 431 451"
    yield from ask_each(spread("/abort/{}", f"{codes} 500 501 502 503 504 505 299 999"))
    yield from ask_each(["/abort/403?why=%3Cno%3E", "/abort/418?why=short", "/abort-response", "/late-error"])
    yield from ask_each(spread("/raise/{}", "broken closed key value"))
    yield from ask_each(spread("/de/shop/fail/{}", "closed broken value"))
    yield from ask_each(spread("/status/{}", "200 201 202 203 205 206 226 299 300 400 404 418 451 500 503 599"))
    yield from ask_each(spread("/stream/{}", "late early unknown"))
    yield "hook stops", [Step("GET", "/leaf", (("X-Stop", "1"),))]
    yield "hook fails", [Step("GET", "/leaf", (("X-Fail", "1"),))]
    yield "teardown fails", [Step("GET", "/leaf", (("X-Fail-Late", "1"),))]
    yield "hook stops before 404", [Step("GET", "/nowhere", (("X-Stop", "1"),))]


@group
def redirects() -> Cases:
    yield from ask_each(spread("/redirect/{}", "300 301 302 303 305 307 308 200"))
    targets = "/gr%C3%BCn grün http%3A//x.test/%C3%BC?a=%26 //x.test ?q a%20b%22%3C%3E x%0d%0aY:1"
    for target in [*targets.split(), ""]:
        yield target, [Step("GET", f"/redirect/302?to={target.encode().decode('latin-1')}")]


RANGES = "0-9 10- -5 0-0 99-99 100- 5-4 0-4,10-14 0-999 x-y".split()


@group
def files() -> Cases:
    since = "Thu, 29 Feb 2024 12:30:00 GMT"
    for value in RANGES:
        yield f"range {value}", [Step("GET", "/file/conditional", (("Range", f"bytes={value}"),))]
    for target, value in itertools.product(["/static/big.bin", "/static/empty.txt", "/file/big"], RANGES[:4]):
        yield f"{target} range {value}", [Step("GET", target, (("Range", f"bytes={value}"),))]
    conditions: dict[str, Headers] = {
        "none-match": (("If-None-Match", '"fixed"'),),
        "none-match weak": (("If-None-Match", 'W/"fixed"'),),
        "none-match other": (("If-None-Match", '"other"'),),
        "none-match any": (("If-None-Match", "*"),),
        "match other": (("If-Match", '"other"'),),
        "match": (("If-Match", '"fixed"'),),
        "since": (("If-Modified-Since", since),),
        "since before": (("If-Modified-Since", "Wed, 28 Feb 2024 12:30:00 GMT"),),
        "since nonsense": (("If-Modified-Since", "then"),),
        "both": (("If-Modified-Since", since), ("If-None-Match", '"other"')),
        "range if": (("Range", "bytes=0-4"), ("If-Range", '"fixed"')),
        "range if other": (("Range", "bytes=0-4"), ("If-Range", '"other"')),
        "range if date": (("Range", "bytes=0-4"), ("If-Range", since)),
        "range unit": (("Range", "lines=0-4"),),
    }
    for name, headers in conditions.items():
        for method in ("GET", "HEAD"):
            yield f"{method} {name}", [Step(method, "/file/conditional", headers)]
    yield "json etag", [Step("GET", "/returns/json-etag", (("If-None-Match", "*"),))]
    later: Headers = (("If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT"),)
    yield "static since", [Step("GET", "/static/css/site.css", later)]


@group
def sessions() -> Cases:
    for name, actions in {
        "count": "count count count read flags untouched",
        "set and pop": "set?a=1&b=%C3%BC show pop?name=a pop?name=a show pop?name=b show",
        "clear": "set?a=1 clear show clear",
        "permanent": "permanent count show untouched read flags fleeting show",
        "nest": "nest nest show nest-modified show nest show",
        "empty": "show read flags clear",
        "types": "types types/back show",
        "big": "big read count",
        "too big": "big set?more=" + "y" * 3000 + " read",
    }.items():
        yield name, [Step("GET", f"/session/{action}") for action in actions.split()]
    yield "forged", [Step("GET", "/session/show", (("Cookie", "session=eyJhIjoxfQ.aaaaaa.forged"),))]
    yield "broken", [Step("GET", "/session/count", (("Cookie", "session=.;session="),))]
    yield "HEAD", [Step("HEAD", "/session/count"), Step("GET", "/session/show")]
    yield "error", [Step("GET", "/session/set?a=1"), Step("GET", "/session/unknown"), Step("GET", "/session/show")]


@group
def visits() -> Cases:
    wrong, right = b"name=bob", b"name=ann"
    yield (
        "log in",
        [
            Step("GET", "/login"),
            Step("POST", "/login", FORM, wrong),
            Step("GET", "/login"),
            Step("POST", "/login", FORM, right),
            Step("GET", "/"),
            Step("GET", "/"),
            Step("GET", "/stream/request"),
            Step("GET", "/logout"),
            Step("GET", "/"),
        ],
    )
    yield "flashes", [Step("POST", "/login", FORM, wrong), Step("GET", "/flashes"), Step("GET", "/flashes")]
    yield "no name", [Step("POST", "/login", FORM, b"x=1"), Step("GET", "/login")]
    yield "cookies", [Step("GET", f"/cookies/{what}") for what in ("show", "set", "show", "delete", "show")]
    yield "auth", [Step("GET", "/basic-auth"), Step("GET", "/basic-auth", HEADERS["basic"])]
    right_login: Headers = (("Authorization", "Basic YW5uOnDDpHNzd29yZA=="),)
    yield "right auth", [Step("GET", "/basic-auth", right_login)]


@group
def traces() -> Cases:
    """What ran for a request, its teardowns too."""
    asked = {
        "view": ("GET", "/leaf"),
        "HEAD": ("HEAD", "/leaf"),
        "nested": ("GET", "/de/shop/parts/x"),
        "nested error": ("GET", "/de/shop/parts/gone"),
        "shop error": ("GET", "/de/shop/fail/value"),
        "shop handled": ("GET", "/de/shop/fail/closed"),
        "404": ("GET", "/nowhere"),
        "405": ("DELETE", "/leaf"),
        "500": ("GET", "/raise/value"),
        "redirect": ("GET", "/folder"),
        "static": ("GET", "/static/css/site.css"),
        "options": ("OPTIONS", "/leaf"),
        "stream": ("GET", "/stream/request"),
        "late": ("GET", "/stream/late"),
        "late error": ("GET", "/late-error"),
        "sent file": ("GET", "/file/big"),
    }
    for number, (name, (method, target)) in enumerate(asked.items()):
        headers = (("X-Trace", str(number)),)
        yield name, [Step(method, target, headers), Step("GET", f"/trace/{number}", until=b'"end ')]


def make_proxied_cases(forwarded: Headers) -> dict[str, list[Step]]:
    """What the site behind middleware is asked, with and without the headers of a proxy."""
    cases: dict[str, list[Step]] = {}
    variants: dict[str, Headers] = {
        "plain": (),
        "forwarded": forwarded,
        "posing": (("X_Forwarded_For", "192.0.2.66"), ("X-Forwarded_Host", "evil.test")),
        "odd": (("X-Forwarded-For", "unknown, "), ("X-Forwarded-Proto", "ftp"), ("X-Forwarded-Host", "a:81,b:82")),
        "twice": (("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-For", "192.0.2.2"), ("X-Forwarded-Prefix", "/a,/b")),
    }
    targets = ("/seen?q=%C3%BC", "/folder/", "/folder", "/stream", "/fail", "/nowhere", "/static/css/site.css")
    for (name, headers), target in itertools.product(variants.items(), targets):
        cases[f"GET {target} {name}"] = [Step("GET", target, headers)]
        cases[f"HEAD {target} {name}"] = [Step("HEAD", target, headers)]
    for name, headers in variants.items():
        cases[f"count {name}"] = [Step("GET", "/count", headers)] * 3
        cases[f"POST {name}"] = [Step("POST", "/seen", headers, b"a body")]
        cases[f"chunked {name}"] = [Step("POST", "/seen", headers, b"a body" * 20_000, chunked=True)]
        cases[f"OPTIONS {name}"] = [Step("OPTIONS", "/seen", headers)]
    return cases


def make_mounted_cases() -> dict[str, list[Step]]:
    """What the site is asked below a path, where all that it builds must begin with it."""
    targets = """
    / /echo/a%20b?q=1 /environ/x?y /urls /folder /folder/ /redirect-absolute /nowhere /de/shop/ /static/css/site.css
    /static/nothing /page/about /cookies/set /gr%C3%BCn/%C3%9F /deep/pre/x /pre/leaf /leaf /abort/404 /raise/value
    """
    cases = dict(itertools.chain(ask_each(targets.split()), ask_each(targets.split(), "HEAD")))
    log_in = Step("POST", "/login", FORM, b"name=ann")
    return {**cases, "log in": [Step("GET", "/login"), log_in, Step("GET", "/"), Step("GET", "/logout")]}
