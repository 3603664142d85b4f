"""Files as responses, with the application's settings."""

from __future__ import annotations

import os
import typing as t
from datetime import datetime

# By attribute, so that a replacement in the module is seen.
import werkzeug.utils

from .globals import current_app, request

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
    return t.cast("Response", werkzeug.utils.send_file(**options))


def send_from_directory(directory: os.PathLike[str] | str, path: os.PathLike[str] | str, **kwargs: t.Any) -> Response:
    """A response of an untrusted `path` below a trusted `directory`; NotFound where there is no such file.

    Keywords are those of `send_file`.
    """
    options = _prepare_send_file_kwargs(**kwargs)
    return t.cast("Response", werkzeug.utils.send_from_directory(directory, path, **options))
