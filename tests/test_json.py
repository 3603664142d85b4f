"""JSON through the provider, and tagged JSON: the bytes are Flask's."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import gc
import io
import typing as t
import uuid
import weakref

import flask
import flask.json.tag
import pytest
from hypothesis import given, settings, strategies as st
from markupsafe import Markup

from asyncflask import Flask, json, jsonify, request
from asyncflask.json.provider import DefaultJSONProvider, JSONProvider
from asyncflask.json.tag import JSONTag, TaggedJSONSerializer


@dataclasses.dataclass
class Point:
    x: int
    y: list[int]


class Html:
    def __html__(self) -> str:
        return "<b>"


VALUES: dict[str, t.Any] = {
    "str": "snow ☃ </script>",
    "numbers": [1, -2.5, True, None],
    "sorted": {"b": 1, "a": {"d": 1, "c": 2}},
    "datetime": datetime.datetime(2020, 2, 3, 4, 5, 6),
    "aware": datetime.datetime(2020, 2, 3, 4, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
    "date": datetime.date(2020, 2, 3),
    "decimal": decimal.Decimal("1.10"),
    "uuid": uuid.UUID(int=7),
    "dataclass": Point(1, [2]),
    "html": Html(),
    "markup": Markup("<i>"),
    "tuple": (1, (2,)),
    "nan": float("nan"),
}


@pytest.fixture
def app() -> Flask:
    return Flask(__name__)


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_response_is_flasks(app: Flask, value: t.Any, debug: bool) -> None:
    peer = flask.Flask(__name__)
    app.debug = peer.debug = debug
    with app.app_context(), peer.app_context():
        ours, theirs = jsonify(value), flask.jsonify(value)
    assert (ours.data, ours.mimetype) == (theirs.data, theirs.mimetype)


@pytest.mark.parametrize("in_context", [False, True])
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_dumps_is_flasks(app: Flask, value: t.Any, in_context: bool) -> None:
    if in_context:
        with app.app_context(), flask.Flask(__name__).app_context():
            assert json.dumps(value) == flask.json.dumps(value)
    else:
        assert json.dumps(value) == flask.json.dumps(value)


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((), {}, "null"),
        ((1,), {}, "1"),
        (([],), {}, "[]"),
        ((1, 2), {}, "[1,2]"),
        ((), {"b": 1, "a": 2}, '{"a":2,"b":1}'),
    ],
)
def test_jsonify_arguments(app: Flask, args: t.Any, kwargs: t.Any, expected: str) -> None:
    with app.app_context():
        assert jsonify(*args, **kwargs).get_data(as_text=True) == f"{expected}\n"


def test_jsonify_takes_args_or_kwargs(app: Flask) -> None:
    with app.app_context(), pytest.raises(TypeError, match="args or kwargs"):
        jsonify(1, a=2)


@pytest.mark.parametrize("in_context", [False, True])
def test_unknown_types_are_refused(app: Flask, in_context: bool) -> None:
    with pytest.raises(TypeError, match="type object is not JSON serializable"):
        if in_context:
            with app.app_context():
                json.dumps(object())
        else:
            json.dump(object(), io.StringIO())


@pytest.mark.parametrize("in_context", [False, True])
def test_files(app: Flask, in_context: bool) -> None:
    def there_and_back() -> t.Any:
        file = io.StringIO()
        json.dump({"ä": decimal.Decimal("1")}, file)
        return json.load(io.BytesIO(file.getvalue().encode())), json.loads(b'{"a": "\xc3\xa4"}')

    if in_context:
        with app.app_context():
            assert there_and_back() == ({"ä": "1"}, {"a": "ä"})
    else:
        assert there_and_back() == ({"ä": "1"}, {"a": "ä"})


def test_provider_settings(app: Flask) -> None:
    class Provider(DefaultJSONProvider):
        ensure_ascii = False
        sort_keys = False
        compact = False
        mimetype = "application/vnd.own+json"
        default = staticmethod(lambda value: "own")

    app.json = Provider(app)
    with app.app_context():
        response = jsonify(b="ä", a=object())
    assert response.get_data(as_text=True) == '{\n  "b": "ä",\n  "a": "own"\n}\n'
    assert response.mimetype == "application/vnd.own+json"


def test_provider_needs_only_dumps_and_loads() -> None:
    class Provider(JSONProvider):
        def dumps(self, obj: t.Any, **kwargs: t.Any) -> str:
            return f"<{obj}>"

        def loads(self, s: str | bytes, **kwargs: t.Any) -> t.Any:
            return len(s)

    class OwnFlask(Flask):
        json_provider_class = Provider

    app = OwnFlask(__name__)
    with app.test_request_context("/", data=b"abc", content_type="application/json"):
        file = io.StringIO()
        json.dump(1, file)
        assert file.getvalue() == "<1>"
        assert json.load(io.StringIO("abcd")) == 4
        assert request.get_json() == 3
        assert (jsonify(2).data, jsonify(2).mimetype) == (b"<2>", "application/json")


def test_base_provider_is_abstract(app: Flask) -> None:
    with pytest.raises(NotImplementedError):
        JSONProvider(app).dumps(1)
    with pytest.raises(NotImplementedError):
        JSONProvider(app).loads("1")


def test_provider_does_not_keep_its_application() -> None:
    app = Flask(__name__)
    alive = weakref.ref(app)
    provider = app.json
    gc.disable()
    try:
        del app
        assert alive() is None
        assert provider.loads("1") == 1
    finally:
        gc.enable()


# Tagged JSON

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text()
    | st.binary()
    | st.uuids()
    | st.text().map(Markup)
    | st.datetimes(
        min_value=datetime.datetime(1970, 1, 1),
        max_value=datetime.datetime(2100, 1, 1),
        timezones=st.just(datetime.UTC),
    ).map(lambda moment: moment.replace(microsecond=0))
)
keys = st.text(max_size=4) | st.sampled_from([" t", " di", " b", " m", " u", " d", " t__"])
tagged = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(keys, inner, max_size=2)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(tagged)
def test_tagged_text_is_flasks_and_comes_back(value: t.Any) -> None:
    text = TaggedJSONSerializer().dumps(value)
    assert text == flask.json.tag.TaggedJSONSerializer().dumps(value)
    back = TaggedJSONSerializer().loads(text)
    assert back == value
    assert repr(back) == repr(flask.json.tag.TaggedJSONSerializer().loads(text))


class Own:
    def __init__(self, data: t.Any) -> None:
        self.data = data


class TagOwn(JSONTag):
    __slots__ = ()
    key = " o"

    def check(self, value: t.Any) -> bool:
        return isinstance(value, Own)

    def to_json(self, value: t.Any) -> t.Any:
        return self.serializer.tag(value.data)

    def to_python(self, value: t.Any) -> t.Any:
        return Own(value)


def test_own_tag() -> None:
    serializer = TaggedJSONSerializer()
    serializer.register(TagOwn)
    assert serializer.loads(serializer.dumps(Own((1,)))).data == (1,)


def test_a_key_is_registered_once() -> None:
    serializer = TaggedJSONSerializer()
    serializer.register(TagOwn)
    with pytest.raises(KeyError, match="already registered"):
        serializer.register(TagOwn)
    serializer.register(TagOwn, force=True, index=0)
    assert isinstance(serializer.order[0], TagOwn)
    assert serializer.tags[" o"] is serializer.order[0]


class TagText(JSONTag, of=str, to_json=str.upper, to_python=str.lower):
    key = " s"


@pytest.mark.parametrize("registers", [True, False])
def test_own_tag_of_a_type_that_json_has(registers: bool) -> None:
    serializer = TaggedJSONSerializer()
    assert serializer.dumps(["a", 1]) == '["a",1]'
    if registers:
        serializer.register(TagText)
    else:
        serializer.order.append(TagText(serializer))
    assert serializer.dumps(["a", 1]) == '[{" s":"A"},1]'


def test_own_default_tags() -> None:
    class Own(TaggedJSONSerializer):
        default_tags: t.ClassVar[list[type[JSONTag]]] = [TagText]

    assert Own().dumps("a") == '{" s":"A"}'


def test_tagged_json_is_written_by_the_applications_provider(app: Flask) -> None:
    class Own(DefaultJSONProvider):
        def dumps(self, obj: t.Any, **kwargs: t.Any) -> str:
            return super().dumps(["own", obj], **kwargs)

    serializer = TaggedJSONSerializer()
    with app.app_context():
        assert serializer.dumps({"b": (1,), "a": "é"}) == '{"a":"\\u00e9","b":{" t":[1]}}'
        app.json.ensure_ascii = app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider's
        assert serializer.dumps({"b": 1, "a": "é"}) == '{"b":1,"a":"é"}'
        app.json = Own(app)
        assert serializer.dumps([1]) == '["own",[1]]'


@pytest.mark.parametrize("index", [None, -1, 0, 1])
def test_order_of_tags(index: int | None) -> None:
    ours, theirs = TaggedJSONSerializer(), flask.json.tag.TaggedJSONSerializer()
    for serializer in (ours, theirs):
        t.cast(t.Any, serializer).register(TagOwn, index=index)
    assert [type(tag).__name__ for tag in ours.order] == [type(tag).__name__ for tag in theirs.order]


def test_base_tag_is_abstract() -> None:
    tag = JSONTag(TaggedJSONSerializer())
    for method in (tag.check, tag.to_json, tag.to_python):
        with pytest.raises(NotImplementedError):
            method(None)
