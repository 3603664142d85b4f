"""The table: whose tests run through the alias, with what, and which of them cannot pass, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

WSGI, ASGI, FLASK = FACES = ("wsgi", "asgi", "flask")

Listed = Mapping[str, str]

FLASK_VERSION = "3.1.3"
FLASK_HASH = "0ef0e52b8a9cd932855379197dd8f94047b359ca0a78695144304cb45f87c9eb"


@dataclass(frozen=True)
class Suite:
    """Tests in a release's source archive. Ids are pytest's, from `folder`; without [case] one stands for all cases."""

    name: str
    archive: str
    version: str
    sha256: str
    tests: int
    folder: str = "."
    # Installed without what it requires, since that would bring Flask itself.
    packages: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    # {id: reason}. Left out on both faces of ours; failing on each face, Flask's too; failing on one.
    left_out: Listed = field(default_factory=dict)
    fails: Listed = field(default_factory=dict)
    fails_on_asgi: Listed = field(default_factory=dict)
    seconds: int = 120

    def get_failing(self, face: str) -> Listed:
        return {**self.fails, **self.fails_on_asgi} if face == ASGI else self.fails

    def get_left_out(self, face: str) -> Listed:
        return {} if face == FLASK else self.left_out

    @property
    def release(self) -> tuple[str, str, str]:
        return self.archive, self.version, self.sha256


SERVES = "replaces werkzeug.serving.run_simple, while app.run serves with a server of its own: it would for ever"
BAD_HOST = "fails with Flask too: since Werkzeug 3.1.8 a Host header with a bad character counts as none"
TABLE_TWICE = "fails with Flask too: SQLAlchemy refuses dataclasses with a __table__, since 2.0.36 at the latest"
ERRORS_STREAM = "wsgi.errors is WSGI's: ASGI has no stream for errors, and so the log goes to stderr"
# Warnings, which are errors in these suites, of newer Pythons about the extensions and their tests.
UTCNOW = ("-W", "ignore:datetime.datetime.utcnow:DeprecationWarning")
UNCLOSED = ("-W", "ignore:unclosed database:ResourceWarning")

# Two run at a time: the one that takes longest, since its tests start processes, comes first.
SUITES = (
    Suite(
        "flask-migrate",
        archive="flask-migrate",
        version="4.1.0",
        sha256="1a336b06eb2c3ace005f5f2ded8641d534c18798d64061f6ff11f79e1434126d",
        tests=7,
        packages=("flask-migrate==4.1.0",),
        requires=("alembic>=1.9,<2",),
    ),
    Suite(
        "flask",
        archive="flask",
        version=FLASK_VERSION,
        sha256=FLASK_HASH,
        tests=490,
        requires=("pytest>=8,<9.1", "asgiref", "cryptography", "greenlet", "python-dotenv"),
        options=("-p", "no:asyncio", "-W", "ignore:Current server name:UserWarning"),
        left_out={
            "tests/test_basic.py::test_werkzeug_passthrough_errors": SERVES,
            "tests/test_basic.py::test_run_defaults": SERVES,
            "tests/test_basic.py::test_run_server_port": SERVES,
            "tests/test_basic.py::test_run_from_config": SERVES,
            "tests/test_templating.py::test_templates_auto_reload_debug_run": SERVES,
        },
        fails={
            "tests/test_reqctx.py::test_bad_environ_raises_bad_request": BAD_HOST,
        },
        fails_on_asgi={
            "tests/test_logging.py::test_wsgi_errors_stream": ERRORS_STREAM,
            "tests/test_logging.py::test_log_view_exception": ERRORS_STREAM,
        },
    ),
    Suite(
        "tutorial",
        archive="flask",
        version=FLASK_VERSION,
        sha256=FLASK_HASH,
        tests=24,
        folder="examples/tutorial",
    ),
    Suite(
        "javascript",
        archive="flask",
        version=FLASK_VERSION,
        sha256=FLASK_HASH,
        tests=8,
        folder="examples/javascript",
    ),
    Suite(
        "flask-sqlalchemy",
        archive="flask-sqlalchemy",
        version="3.1.1",
        sha256="e4b68bb881802dda1a7d878b2fc84c06d1ee57fb40b874d3dc97dabfa36b8312",
        tests=452,
        packages=("flask-sqlalchemy==3.1.1",),
        requires=("sqlalchemy>=2.0.36,<2.1",),
        options=(*UTCNOW, *UNCLOSED),
        fails={
            "tests/test_model_bind.py::test_explicit_table[db2]": TABLE_TWICE,
            "tests/test_model_bind.py::test_explicit_table[db4]": TABLE_TWICE,
        },
    ),
    Suite(
        "flask-login",
        archive="flask-login",
        version="0.6.3",
        sha256="5e23d14a607ef12806c699590b89d0f0e0d67baeec599d75947bf9c147330333",
        tests=114,
        packages=("flask-login==0.6.3",),
        requires=("semantic_version",),
        options=UTCNOW,
    ),
    Suite(
        "flask-wtf",
        archive="flask-wtf",
        version="1.3.0",
        sha256="61d5dabc50c3df885c297dcbd80810443a5d632106c8a69cab8ce740f0cdd7cc",
        tests=85,
        packages=("flask-wtf==1.3.0", "flask-babel==4.0.0", "flask-reuploaded==1.5.0"),
        requires=("wtforms>=3.1,<4", "babel>=2.12,<3", "pytz"),
    ),
    Suite(
        "flask-httpauth",
        archive="flask-httpauth",
        version="4.8.1",
        sha256="88499b22f1353893743c3cd68f2ca561c4ad9ef75cd6bcc7f621161cd0e80744",
        tests=121,
        packages=("flask-httpauth==4.8.1",),
    ),
    Suite(
        "flask-smorest",
        archive="flask-smorest",
        version="0.47.0",
        sha256="a415ce7db3d7e63dd854eb16d59047686dbf5d31c4913e245fa5657f88e7788d",
        tests=554,
        packages=("flask-smorest==0.47.0",),
        requires=("apispec>=6.10,<7", "marshmallow>=4,<5", "webargs>=8.7,<9", "pyyaml"),
    ),
)
