"""The benchmark: `python -m tools.bench`, or `make bench`. See docs/PERFORMANCE.md."""
