"""Speed, memory and disk, each measured beside its bar: `python -m bench`, or `make bench`."""
