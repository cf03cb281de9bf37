# SPDX-License-Identifier: Apache-2.0
"""One question per file. `python -m benchmarks.NAME` prints JSON and keeps it in benchmarks/results; `python -m
benchmarks.table` makes docs/performance.md of what is kept. Ratios within one run are the answer; seconds depend on the
machine and on what else it is doing.
"""
