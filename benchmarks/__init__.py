"""What the box needs and how fast it is, measured. Each module is a program: `python -m benchmarks.NAME [--json]`.

A benchmark prints a table with its aims or its yardstick, and last a line `SUMMARY {json}`: one flat object. `python -m
benchmarks` (`make bench`) runs all of them.
"""
