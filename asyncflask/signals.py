"""Flask's signals and those that Quart adds (blinker): receivers get the application as sender, and may be async."""

from __future__ import annotations

import typing as t

from blinker import NamedSignal, Namespace

from .gone import missing_from

_signals = Namespace()

template_rendered: NamedSignal = _signals.signal("template-rendered")
before_render_template: NamedSignal = _signals.signal("before-render-template")
request_started: NamedSignal = _signals.signal("request-started")
request_finished: NamedSignal = _signals.signal("request-finished")
request_tearing_down: NamedSignal = _signals.signal("request-tearing-down")
got_request_exception: NamedSignal = _signals.signal("got-request-exception")
appcontext_tearing_down: NamedSignal = _signals.signal("appcontext-tearing-down")
appcontext_pushed: NamedSignal = _signals.signal("appcontext-pushed")
appcontext_popped: NamedSignal = _signals.signal("appcontext-popped")
message_flashed: NamedSignal = _signals.signal("message-flashed")

websocket_started: NamedSignal = _signals.signal("websocket-started")
websocket_finished: NamedSignal = _signals.signal("websocket-finished")
websocket_tearing_down: NamedSignal = _signals.signal("websocket-tearing-down")
websocket_received: NamedSignal = _signals.signal("websocket-received")
websocket_sent: NamedSignal = _signals.signal("websocket-sent")
got_websocket_exception: NamedSignal = _signals.signal("got-websocket-exception")
got_background_exception: NamedSignal = _signals.signal("got-background-exception")
got_serving_exception: NamedSignal = _signals.signal("got-serving-exception")
# A request is refused with 503: every worker thread is busy, and the queue is full.
on_overload: NamedSignal = _signals.signal("on-overload")

if not t.TYPE_CHECKING:  # for type checkers a missing name stays an error
    __getattr__ = missing_from(__name__)
