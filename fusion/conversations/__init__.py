"""What is read and learned from, before any model sees it.

In reading order:

    rows.py            a row of data as people have it, as turns
    row_files.py       the rows of a file: JSONL, a JSON list, Parquet
    file_part.py       some of them, as settings name them
    hub.py             the rows of a data set of the hub
    conversation.py    conversations from these, checked row by row
    files.py           the files of an experiment's dialogues
    vocabulary.py      every token id as the bytes it stands for, whichever tokenizer it is of
    placing.py         where in a rendered text each answer lies
    byte_spans.py      which bytes of a text its tokens spell
    template.py        which tokens of a rendered conversation are learned
"""
