"""Names that older Flask had, and what takes their place. They are missing here as in Flask 3.1, but say so."""

from __future__ import annotations

FROM_MODULE = {
    "Markup": "import it from markupsafe",
    "escape": "import it from markupsafe",
    "_request_ctx_stack": "use asyncflask.globals.request_ctx",
    "_app_ctx_stack": "use asyncflask.globals.app_ctx",
    "ext": "import the extension by its own name, such as flask_login",
}
FROM_APP = {
    "before_first_request": "run the code while the application is set up",
    "env": "use app.debug, or a setting of your own",
    "json_encoder": "subclass JSONProvider and set app.json_provider_class",
    "json_decoder": "subclass JSONProvider and set app.json_provider_class",
    "session_cookie_name": "use app.config['SESSION_COOKIE_NAME']",
    "send_file_max_age_default": "use app.config['SEND_FILE_MAX_AGE_DEFAULT']",
    "use_x_sendfile": "use app.config['USE_X_SENDFILE']",
    "propagate_exceptions": "use app.config['PROPAGATE_EXCEPTIONS']",
    "templates_auto_reload": "use app.config['TEMPLATES_AUTO_RELOAD']",
}


def explain(owner: str, name: str, gone: dict[str, str]) -> AttributeError:
    hint = f". It is gone since Flask 2.3: {gone[name]}." if name in gone else ""
    return AttributeError(f"{owner} has no attribute {name!r}{hint}", name=name)
