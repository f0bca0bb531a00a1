"""One request asked several times: the mean of what could be read counts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from eval.records import Place, Unscored, Verdict


def collapse(records: Sequence[Verdict | Unscored]) -> list[Verdict | Unscored]:
    """One record per place, the repeats of each in one: the mean of its values, the words of the first that was read,
    the tokens of all.  Places keep the order of their first record; where no repeat was read, the first stands.
    """
    found: dict[Place, list[Verdict | Unscored]] = {}
    for record in records:
        found.setdefault(record.place.first_time, []).append(record)
    return [_one(repeats) for repeats in found.values()]


def _one(repeats: Sequence[Verdict | Unscored]) -> Verdict | Unscored:
    scored = [record for record in repeats if isinstance(record, Verdict)]
    prompt = sum(record.prompt_tokens for record in repeats)
    completion = sum(record.completion_tokens for record in repeats)
    if not scored:
        return replace(repeats[0], repeat=0, prompt_tokens=prompt, completion_tokens=completion)
    value = statistics.fmean(record.value for record in scored)
    return replace(scored[0], value=value, repeat=0, prompt_tokens=prompt, completion_tokens=completion)
