"""Measurements, each beside its reference in the same run, and the demo.

`python -m benchmarks` measures; `python -m benchmarks.demo` shows. A measurement whose messages are not all
acknowledged and found in the store is an error, not a result.
"""
