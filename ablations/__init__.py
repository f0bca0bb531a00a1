"""Experiments as cells, sweeps of cells, and the reports made from them."""
