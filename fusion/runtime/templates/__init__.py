"""Chat templates, which are programs of whoever made a checkpoint: what they are told, and how they are run.

Whoever shows a model a conversation, to train it or to ask it, comes here, so all models read as they learned.

    pinned.py           a chat template with its settings and its date written into it
    folding.py          turns that a template refuses, in a user's turn
    rendering.py        a conversation's text by a chat template, which runs in a process of its own (render_child.py)
"""
