"""Serve a checkpoint, ask it a benchmark's questions, have the answers judged, and score them with intervals.

    errors.py           which boundary broke
    files.py            reading files that others wrote
    markdown.py         tables in Markdown
    spreadsheet.py      tables in CSV
    records.py          what is handed on: question, answer, verdict, score
    scores/             from verdicts to numbers with intervals
    serve/              servers, and questions to them
    exchange.py         what passes between a benchmark and a judge
    scored.py           one model's result on one benchmark
    agreement/          how far raters agree
    likelihood/         how likely a model finds a text
    benchmarks/         what is asked, and how a verdict is read
    judges/             who gives the verdict
    ensembles/          baselines that need no training
    config.py           the typed config of all these
    selfcheck/          published figures beside ours
    answer/             from questions to answers
    judging/            from answers to verdicts, and from verdicts to scored models
    ensemble_rows.py    the ensembles' rows, made while the sources are served
    pipeline.py         READ SECOND: from checkpoints to scored models
    report/             from scored models to tables, plots and pages
    benchmark_data/     the official files, fetched and checked
    preflight.py        what would stop an evaluation, looked for before it starts

Each line uses only lines above it; tests/test_layers.py holds the order.
"""
