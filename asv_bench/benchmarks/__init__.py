"""Benchmarks that asv runs, one file a topic."""
