"""The official benchmark files and tokenizers: `python -m eval.benchmark_data` fetches and checks them.

`__main__.py` is the command; convert_tokenizer.py rebuilds tokenizers that are published only as a SentencePiece model
or as tiktoken ranks, and compares every one with its original.
"""
