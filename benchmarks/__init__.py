"""Microseconds per request, asyncflask beside its peers: `python -m benchmarks`."""
