"""To import this installs the alias: `python -m pytest -p asyncflask.as_flask`, or a module's first line."""

from .alias import install

install()
