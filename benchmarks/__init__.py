"""Benchmarks: `micro` for single calls, the rest for whole servers."""
