"""What is read and learned from, before any model sees it.

In reading order:

    rows.py            a row of data as people have it, as turns
    row_files.py       the rows of a file: JSONL, a JSON list, Parquet
    hub.py             the rows of a data set of the hub
    conversation.py    conversations from these, checked row by row
    files.py           the files of an experiment's dialogues
    vocabulary.py      every token id as the bytes it stands for, whichever tokenizer it is of
    pinned.py          a chat template with its settings and its date written into it
    folding.py         turns that a template refuses, in a user's turn
    rendering.py       a conversation's text by a chat template, which runs in a process of its own (render_child.py)
    placing.py         where in that text each answer lies
    byte_spans.py      which bytes of a text its tokens spell
    template.py        which tokens of a rendered conversation are learned
"""
