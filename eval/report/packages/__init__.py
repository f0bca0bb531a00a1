"""The same results in the benchmarks' own file formats, so that their tools read them.

In reading order:

    fastchat.py    MT-Bench: model_answer and model_judgment
    alpaca.py      AlpacaEval: outputs, annotations and a leaderboard row
"""
