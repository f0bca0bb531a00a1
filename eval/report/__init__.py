"""From scored models to tables, plots and pages.

In reading order:

    comparisons.py          two models on the same questions
    covers.py               what intervals and tests are over, in words
    tables.py               scores.csv and the rows of the leaderboard
    leaderboard_files.py    the leaderboard as Markdown, CSV and LaTeX
    judging.py              what the judges took, and how far they agreed
    endings.py              how many answers were cut, empty, or had thinking taken out
    plots.py                the plots
    sections.py             a part of a report below the leaderboard
    answers_page.py         every question, answer and verdict on one page
    headline.py             what a leaderboard found, in a sentence
    made.py                 when, by which command and from what a report was made
    page.py                 the report as one HTML page
    terminal.py             the leaderboard on the terminal
    write.py                all of it into one directory
    packages/               the same results in the benchmarks' own file formats
"""
