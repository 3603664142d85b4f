"""A client's headers that are none: dates with numbers that no date has, credentials that are no Base64 (RFC 9110)."""

from __future__ import annotations

import io

import pytest

import asyncflask
from asyncflask import Flask, send_file

HUGE = "Sun, 09 Sep 20019999999999 01:46:40 GMT"  # OverflowError within Werkzeug
PAST, FUTURE = "Sun, 09 Sep 2001 01:46:39 GMT", "Sun, 09 Sep 2035 01:46:40 GMT"
WHOLE = (200, b"0123456789")


@pytest.fixture(params=["asgi", "wsgi"])
def client(request):
    app = Flask(__name__)
    app.testing = True
    app.add_url_rule("/file", view_func=lambda: send_file(io.BytesIO(WHOLE[1]), "text/plain", last_modified=1e9))

    @app.get("/dates")
    def dates():
        names = ("date", "if_modified_since", "if_unmodified_since")
        return [getattr(asyncflask.request, name) for name in names] + [asyncflask.request.if_range.to_header()]

    @app.get("/who")
    def who():
        credentials = asyncflask.request.authorization
        return [credentials and credentials.username]

    return app.test_client(face=request.param)


@pytest.mark.parametrize(
    "headers, expected",
    [
        ({"If-Modified-Since": HUGE}, WHOLE),
        ({"If-Modified-Since": FUTURE}, (304, b"")),
        ({"If-Modified-Since": PAST}, WHOLE),
        ({"If-Range": HUGE, "Range": "bytes=1-2"}, WHOLE),
        ({"If-Range": FUTURE, "Range": "bytes=1-2"}, (206, b"12")),
    ],
)
def test_date_that_is_none_is_no_condition(client, headers, expected):
    response = client.get("/file", headers=headers)
    assert (response.status_code, response.data) == expected


@pytest.mark.parametrize("date", [HUGE, "yesterday"])
def test_request_has_no_such_date(client, date):
    headers = dict.fromkeys(("Date", "If-Modified-Since", "If-Unmodified-Since"), date)
    assert client.get("/dates", headers=headers).json == [None, None, None, ""]
    assert client.get("/dates", headers={"If-Range": HUGE}).json[-1] == ""


def test_request_has_the_dates_that_are(client):
    headers = dict.fromkeys(("Date", "If-Modified-Since", "If-Unmodified-Since", "If-Range"), PAST)
    assert client.get("/dates", headers=headers).json == [PAST] * 4


@pytest.mark.parametrize(
    "header, username",
    [("Basic \u00e9", None), ("Basic !!!!", None), ("Basic YTpi", "a"), ("", None)],
)
def test_credentials_that_are_none(client, header, username):
    assert client.get("/who", headers={"Authorization": header}).json == [username]
