"""One report from many cells: `python -m ablations.report cells=NAME out=DIR`."""
