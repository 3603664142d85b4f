"""Flask's module of this name: six subjects which have their own files here."""

from __future__ import annotations

import typing as t

import werkzeug as werkzeug  # reached as an attribute of this module by some who replace parts of it

from .files import _prepare_send_file_kwargs, send_file, send_from_directory
from .flashing import flash, get_flashed_messages
from .globals import _cv_app, _cv_request, current_app, request, request_ctx, session
from .gone import missing_from
from .paths import get_debug_flag, get_load_dotenv, get_root_path
from .signals import message_flashed
from .streaming import stream_with_context
from .urls import abort, make_response, redirect, url_for
from .wrappers import _split_blueprint_path

__all__ = [
    "_cv_app",
    "_cv_request",
    "_prepare_send_file_kwargs",
    "_split_blueprint_path",
    "abort",
    "current_app",
    "flash",
    "get_debug_flag",
    "get_flashed_messages",
    "get_load_dotenv",
    "get_root_path",
    "get_template_attribute",
    "make_response",
    "message_flashed",
    "redirect",
    "request",
    "request_ctx",
    "send_file",
    "send_from_directory",
    "session",
    "stream_with_context",
    "url_for",
]


def get_template_attribute(template_name: str, attribute: str) -> t.Any:
    """A macro or variable which a template exports."""
    return getattr(current_app.jinja_env.get_template(template_name).module, attribute)


if not t.TYPE_CHECKING:  # for type checkers a missing name stays an error
    __getattr__ = missing_from(__name__)
