"""`python -m examples.live` serves the application on http://127.0.0.1:5000."""

from __future__ import annotations

from .app import app

if __name__ == "__main__":
    app.run()
