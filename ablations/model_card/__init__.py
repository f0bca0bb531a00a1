"""A merged checkpoint with its card: what it was made of, how, what it scored, and what it is not for."""
