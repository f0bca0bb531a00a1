"""The official benchmark files and tokenizers: `python -m eval.benchmark_data` fetches and checks them."""
