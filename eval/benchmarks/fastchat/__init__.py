"""MT-Bench as the fschat package has it: everything that is read from it or counted as it counts."""
