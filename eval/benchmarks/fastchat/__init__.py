"""MT-Bench as the fschat package has it: everything that is read from it or counted as it counts.

In reading order:

    rules.py            its rules, read from the installed package
    prompts.py          its judge prompts, and which one a turn takes
    single_rating.py    a rating from 1 to 10, read from a reply
    verdict_letter.py   which of two answers is better, read from a reply
    files.py            its files of answers and judgments
    judgments.py        its judgments, as replies to what we would ask
    means.py            its means, which count repeated and failed judgments otherwise than we do
"""
