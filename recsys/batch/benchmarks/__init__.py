"""Benchmarks of the night's kernels and stages: exact top-k, encoding, lists at scale."""
