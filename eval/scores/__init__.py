"""From verdicts to numbers with intervals: pure functions of arrays.

In reading order:

    metric_row.py        one cell of a result table, and that of a mean
    metric.py            what a metric is: name, unit, whether more of it is better
    win_rate.py          win rates of preferences, by alpaca-eval's rules
    length_control.py    what the win rate would be at equal lengths
    fold_order.py        the orders in which its cross-validation deals groups to folds
    alpaca_package.py    the installed alpaca-eval package
    intervals.py         the interval of a mean over questions; Student's where nothing bounds its values
    bounded_mean.py      the score interval of ratings, shares and percentages
    jackknife.py         the interval of a statistic that is no mean
    sign_flip.py         whether a paired difference is more than chance
    multiplicity.py      many differences tested at once
    paired.py            many models, each less its reference, in one pass
    crossed.py           a mean over runs and questions: interval, test, smallest difference
    judge_noise.py       the judge's own part of an uncertainty
    agreement.py         how far two raters agree beyond chance
"""
