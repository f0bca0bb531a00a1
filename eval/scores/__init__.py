"""From verdicts to numbers with intervals: pure functions of arrays."""
