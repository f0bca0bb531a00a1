"""Whether more of a metric is better: a table of those of which it is not."""

from __future__ import annotations

from typing import Literal

LESS_IS_BETTER = frozenset(
    {
        "pairwise_losses",
        "perplexity",
        "word_perplexity",
        "byte_perplexity",
        "bits_per_byte",
        "brier_score",
        "ter",
    }
)
# What describes the answers, the judge or the precision of another number.
NEITHER = frozenset(
    {
        "average_length",
        "standard_error",
        "length_controlled_standard_error",
        "length_controlled_standard_error_refit",
        "position_consistency",
        "first_position_bias",
        "pairwise_ties",
        "rating_judge_sd",
        "rating_judge_share",
        "win_rate_judge_sd",
        "win_rate_judge_share",
        "pairwise_win_rate_judge_sd",
        "pairwise_win_rate_judge_share",
    }
)


def sense(metric: str) -> Literal[1, 0, -1]:
    """1 where more is better, -1 where less is, 0 for neither.  An lm-eval metric may name its filter after a comma."""
    name = metric.split(",")[0]
    return -1 if name in LESS_IS_BETTER else 0 if name in NEITHER else 1
