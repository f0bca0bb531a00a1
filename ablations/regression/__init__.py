"""What moved against a kept table, and which artifact behind it changed first: `make eval`."""
