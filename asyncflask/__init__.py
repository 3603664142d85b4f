"""Flask, async-first: one application object that is both ASGI and WSGI."""

from . import json as json
from .app import Flask as Flask
from .blueprints import Blueprint as Blueprint
from .config import Config as Config
from .ctx import (
    after_this_request as after_this_request,
    copy_current_app_context as copy_current_app_context,
    copy_current_request_context as copy_current_request_context,
    copy_current_websocket_context as copy_current_websocket_context,
    has_app_context as has_app_context,
    has_request_context as has_request_context,
    has_websocket_context as has_websocket_context,
)
from .globals import (
    current_app as current_app,
    g as g,
    request as request,
    session as session,
    websocket as websocket,
)
from .helpers import (
    abort as abort,
    flash as flash,
    get_flashed_messages as get_flashed_messages,
    get_template_attribute as get_template_attribute,
    make_response as make_response,
    redirect as redirect,
    send_file as send_file,
    send_from_directory as send_from_directory,
    stream_with_context as stream_with_context,
    url_for as url_for,
)
from .json import jsonify as jsonify
from .signals import (
    appcontext_popped as appcontext_popped,
    appcontext_pushed as appcontext_pushed,
    appcontext_tearing_down as appcontext_tearing_down,
    before_render_template as before_render_template,
    got_background_exception as got_background_exception,
    got_request_exception as got_request_exception,
    got_serving_exception as got_serving_exception,
    got_websocket_exception as got_websocket_exception,
    message_flashed as message_flashed,
    on_overload as on_overload,
    request_finished as request_finished,
    request_started as request_started,
    request_tearing_down as request_tearing_down,
    template_rendered as template_rendered,
    websocket_finished as websocket_finished,
    websocket_received as websocket_received,
    websocket_sent as websocket_sent,
    websocket_started as websocket_started,
    websocket_tearing_down as websocket_tearing_down,
)
from .sse import ServerSentEvent as ServerSentEvent, sse as sse
from .steps import nonblocking as nonblocking
from .templating import (
    render_template as render_template,
    render_template_async as render_template_async,
    render_template_string as render_template_string,
    render_template_string_async as render_template_string_async,
    stream_template as stream_template,
    stream_template_async as stream_template_async,
    stream_template_string as stream_template_string,
    stream_template_string_async as stream_template_string_async,
)
from .websockets import Websocket as Websocket, WebsocketDisconnect as WebsocketDisconnect
from .wrappers import Request as Request, Response as Response


def __getattr__(name: str) -> object:
    if name == "cli":  # as after `import flask`; it brings click, so it waits for its first use
        from importlib import import_module

        return import_module(".cli", __name__)
    if name == "__version__":
        return _flask_version()
    from .gone import missing_from

    missing_from(__name__)(name)


def _flask_version() -> str:
    import warnings

    from .alias import FLASK_VERSION

    warnings.warn(
        "'__version__' is that of the Flask whose behaviour this is, and deprecated as there."
        " 'importlib.metadata.version(\"asyncflask\")' is asyncflask's own.",
        DeprecationWarning,
        stacklevel=3,
    )
    return FLASK_VERSION
