"""Many cells: how they are listed, started, watched and taken up again.

In reading order:

    cells.py      the cells that Hydra will make of a command
    files.py      the small files by which cells, their parent and a watcher know of each other
    attempt.py    one attempt at a cell, in whatever process
    process.py    the process in which a launcher's cells run, which may be killed
    job.py        what Hydra calls for each cell
    view.py       all cells in one table, live
    launch.py     the sweep as its parent sees it: launch, what became of it, how to go on
"""
