"""What a cell or a sweep would take, before anything of it starts: `python -m ablations plan=true ...`.

In reading order:

    charges.py    what judges are asked for, and what that costs
    book.py       every stage that the cells ask for, each once
    rates.py      how fast a machine works: from work to hours and bytes
    record.py     the plan, and the budget that it is compared with
    table.py      the plan on the terminal and in files
    preflight.py  what would stop a run, besides what it takes
    plan.py       all of it, and the refusal of what exceeds a budget
"""
