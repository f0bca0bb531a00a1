"""How likely a model finds what is said in a conversation.

chat_text.py      a conversation in the checkpoint's own chat template, and where its messages stand in it
local_model.py    a checkpoint in this process
surprise.py       nats of the user's turns and of the answers, by a server's log-probabilities or in this process
"""
