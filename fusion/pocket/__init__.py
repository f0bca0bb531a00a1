"""The embedded experiment: dialogues the project writes itself, and the tiny chat models it trains on them."""
