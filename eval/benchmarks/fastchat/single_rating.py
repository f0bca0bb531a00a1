"""A rating from 1 to 10, read from a judge's words by MT-Bench's published patterns."""

from __future__ import annotations

from eval.benchmarks.fastchat.rules import fastchat_common

LOWEST, HIGHEST = 1.0, 10.0


def parse_rating(text: str) -> float:
    """The first `[[number]]`, else the first `[number]`, as fastchat reads it.

    Raises ValueError when there is none, or when it lies outside 1 to 10: fastchat books the first as -1 and averages
    the second in (a published file has a 72), we leave both unscored.
    """
    rules = fastchat_common()
    match = rules.one_score_pattern.search(text) or rules.one_score_pattern_backup.search(text)
    if match is None:
        raise ValueError("no rating of the form [[7]] in the reply")
    rating = float(match.group(1))
    if not LOWEST <= rating <= HIGHEST:
        raise ValueError(f"the rating {match.group(1)} lies outside 1 to 10")
    return rating
