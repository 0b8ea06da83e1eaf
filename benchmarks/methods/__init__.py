"""Training methods that were measured and are not in the product: see `docs/log.md`, 2026-11-25 and 2026-11-29.

Each is a `Method` of `worker/consolidation/training/methods/method.py`, which `benchmarks.learning.consolidations` adds
to the ones of the settings.
"""
