"""Speed, memory and disk, each measured beside the bar it should reach: `python -m bench`, or `make bench`.

One file per group of rows.  A group is a function without arguments that gives `BenchRow`s; `GROUPS` in
`bench.__main__` names them.  Two things that are compared are measured by turns in one run, since a machine's speed
drifts.
"""
