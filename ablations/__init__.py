"""Experiments as cells, sweeps of cells, and the reports made from them.

    cell_note.py   what a finished cell says of itself, and the artifacts behind it
    tracking/      a finished cell in an experiment tracker
    made_by.py     by what code finished cells were made
    looks.py       how often the questions were looked at, counted from the store
    precisions.py  at which precision each model was trained, stored and served
    cell.py        one cell: fusion, evaluation, its own report
    sweep/         many cells: listed, started, watched, taken up again
    studies/       what a sweep is run for: a question, a claim, the comparison that answers it
    report/        one report from many cells
    plan/          what a cell or a sweep would take, before it starts
    rates.py       how fast this machine works, measured for the plan
    watch.py       all cells of a sweep in one live table
    model_card/    a merged checkpoint ready for the hub
    regression/    a table beside a kept one, and what moved it
    new.py         an experiment of one page, written beside the caller
    commands.py    the script fusechat-lab: every command by its module's name

Each line uses only lines above it; tests/test_layers.py holds the order.
"""
