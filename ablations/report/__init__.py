"""One report from many cells: `python -m ablations.report cells=NAME out=DIR`.

In reading order:

    origins.py      where the numbers come from: cells and the artifacts behind them
    contrasts.py    every merge less its best target, every fused model less SFT
    plots.py        how two axes act together, how far seeds differ, what each merge weighed
    published.py    a published table beside ours
    pooled.py       all of it: the leaderboard with seeds pooled, findings, contrasts, plots, origins
"""
