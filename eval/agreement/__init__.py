"""How far judges, or judges and people, agree: `python -m eval.agreement`.

In reading order:

    votes.py    what raters said about the same answers, from any of the usual files
    table.py    agreement between every two raters, and of each with itself
"""
