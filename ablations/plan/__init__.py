"""What a cell or a sweep would take, before anything of it starts: `python -m ablations plan=true ...`."""
