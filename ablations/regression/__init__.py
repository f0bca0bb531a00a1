"""What moved against a kept table, and which artifact behind it changed first: `make eval`.

In reading order:

    scores.py    a score table beside a kept one: every metric that moved beyond its interval
    chain.py     what every artifact behind a table was made of, and what came out
    causes.py    two chains beside each other: where they part, and by what
    pages.py     the kept table within pages of the documentation
    report.py    what was found, for a terminal, as Markdown and for CI systems
"""
