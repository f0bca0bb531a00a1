"""From answers to verdicts, and from verdicts to one scored model."""
