"""Benchmarks of rigorous_recorder against the plain alternatives, run by `python -m benchmarks`."""
