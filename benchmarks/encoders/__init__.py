"""Encoders for the benchmarks, from what the package index has."""
