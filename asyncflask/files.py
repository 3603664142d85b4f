"""Files as responses, with the application's settings."""

from __future__ import annotations

import os
import stat
import typing as t
from datetime import datetime
from io import BufferedReader

# By attribute, so that a replacement in the module is seen.
import werkzeug.utils
from werkzeug.exceptions import NotFound
from werkzeug.wsgi import FileWrapper

from .globals import current_app, request
from .shortage import answering_shortages

if t.TYPE_CHECKING:
    from .wrappers import Response


def _prepare_send_file_kwargs(**kwargs: t.Any) -> dict[str, t.Any]:
    if kwargs.get("max_age") is None:
        kwargs["max_age"] = current_app.get_send_file_max_age
    return {
        **kwargs,
        "environ": request.environ,
        "use_x_sendfile": current_app.config["USE_X_SENDFILE"],
        "response_class": current_app.response_class,
        "_root_path": current_app.root_path,
    }


def send_file(
    path_or_file: os.PathLike[t.AnyStr] | str | t.IO[bytes],
    mimetype: str | None = None,
    as_attachment: bool = False,
    download_name: str | None = None,
    conditional: bool = True,
    etag: bool | str = True,
    last_modified: datetime | int | float | None = None,
    max_age: int | t.Callable[[str | None], int | None] | None = None,
) -> Response:
    """A response of a trusted path (relative to `app.root_path`) or binary file; `max_age` in seconds."""
    options = _prepare_send_file_kwargs(
        path_or_file=path_or_file,
        mimetype=mimetype,
        as_attachment=as_attachment,
        download_name=download_name,
        conditional=conditional,
        etag=etag,
        last_modified=last_modified,
        max_age=max_age,
    )
    with answering_shortages():
        return t.cast("Response", werkzeug.utils.send_file(**options))


def send_from_directory(directory: os.PathLike[str] | str, path: os.PathLike[str] | str, **kwargs: t.Any) -> Response:
    """A response of an untrusted `path` below a trusted `directory`; NotFound where there is no such file.

    Keywords are those of `send_file`.
    """
    options = _prepare_send_file_kwargs(**kwargs)
    with answering_shortages():
        try:
            _refuse_links(directory, os.fspath(path))
            return t.cast("Response", werkzeug.utils.send_from_directory(directory, path, **options))
        except FileNotFoundError as error:  # it was there a moment ago
            raise NotFound from error


def _refuse_links(directory: os.PathLike[str] | str, path: str) -> None:
    """Raise NotFound for a link that leads out of the folder, unless FOLLOW_SYMLINKS allows it.

    Not against those who may write there while it is served.
    """
    if current_app.config["FOLLOW_SYMLINKS"]:
        return
    folder = at = os.path.join(current_app.root_path, directory)
    path = os.path.normpath(path)
    for part in path.split(os.sep):
        at = os.path.join(at, part)
        if os.path.islink(at):
            break
    else:
        return
    inside = os.path.join(os.path.realpath(folder), "")
    if os.path.realpath(os.path.join(folder, path)).startswith(inside):
        return
    current_app.logger.warning("%r is a link out of its folder, and FOLLOW_SYMLINKS is not set: 404.", path)
    raise NotFound


def find_path(response: Response) -> str | None:
    """The absolute path of the regular file that is the response's whole body, for a server that sends it by itself.

    None if there may be more to it: a range, a file without its name, or code that is to be called after the last byte.
    """
    body = response.response
    file = body.file if isinstance(body, FileWrapper) else None
    if type(file) is not BufferedReader or not isinstance(file.name, str) or response._on_close or file.tell():
        return None
    opened = os.fstat(file.fileno())
    if not stat.S_ISREG(opened.st_mode) or response.content_length != opened.st_size or not os.path.isabs(file.name):
        return None
    try:
        return file.name if os.path.samestat(opened, os.stat(file.name)) else None
    except OSError:  # removed after it was opened
        return None
