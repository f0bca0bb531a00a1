"""The same results in the benchmarks' own file formats, so that their tools read them."""
