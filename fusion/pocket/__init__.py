"""The embedded experiment: dialogues the project writes itself, and the tiny chat models it trains on them.

In reading order:

    dialogues.py     two-turn dialogues in three domains whose right answers are known
    questions.py     the files written from them: for training, for fusion, and to be asked
    tokenizers.py    a tokenizer for each model, as unlike as those of real models
    models.py        the models before training: architecture, template, random weights
    stage.py         the stage that makes one
"""
