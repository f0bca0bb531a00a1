"""AlpacaEval's own arithmetic.

metrics.py    its rows of scores.csv, from win rates to the package's own figures
"""
