"""Fuzzing: bytes become a request on both faces of an application. `python -m tests.fuzz` runs it."""
