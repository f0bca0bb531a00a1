"""Pairwise knowledge fusion of chat LLMs and merging of the targets: from dialogues to one merged checkpoint.

    runtime/           the ground floor: the store of artifacts, settings, commands, child processes, progress
    conversations/     what is read and learned from: dialogues, chat templates, vocabularies
    distribution.py    a next-token distribution of which only the k likeliest entries are kept
    checkpoint.py      a model ready for the next stage
    rounding.py        what rounding leaves of an update, measured while it rounds
    pocket/            the embedded experiment's dialogues, questions and tiny models
    represent/         what each model predicts at every labelled token
    align/             a source's predictions carried to the pivot's positions and vocabulary
    fuse/              which of several models' distributions is taught
    train/             the pivot trained on them: one target for each source
    merge/             the targets put together again in weight space
    models.py          the models an experiment names, and where they lie
    tasks/             what a row of the table learns beside the labels
    experiment.py      the typed config of all these
    dialogues.py       the dialogues of an experiment as an artifact
    expected.py        how many dialogues there will be, and how long, for plans
    made.py            what an experiment makes of its models, each once
    pipeline.py        READ FIRST: all stages, one call each
    planned.py         the same, walked with a store that computes nothing
    preflight.py       what would stop them, looked for before the first

Each line uses only lines above it; tests/test_layers.py holds the order.
"""
