"""Measurements: `python -m benchmarks NAME`. Timings never decide a test; they live here."""
