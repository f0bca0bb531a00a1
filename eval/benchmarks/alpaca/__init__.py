"""AlpacaEval's own arithmetic: metrics.py makes its rows of scores.csv, from win rates to the package's own figures.

In reading order:
"""
