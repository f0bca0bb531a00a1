"""What is read and learned from, before any model sees it.

In reading order:

    conversation.py    conversations from files, checked row by row
    files.py           the files of an experiment's dialogues
    vocabulary.py      every token id as the bytes it stands for, whichever tokenizer it is of
    template.py        a checkpoint's own chat template, and which tokens of a rendered conversation are learned
"""
