"""What judging will cost, said before the first question is asked, and what it did cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from eval.exchange import JudgeRequest
from eval.judges import Member
from eval.judging.collect import needs_asking
from eval.judging.cost import Estimate, estimate
from eval.judging.judgement import Judgement, by_judge
from eval.records import Unscored, Verdict
from eval.scored import JudgeCost
from fusion.runtime.configure import Refusal


def estimates(judgements: Sequence[Judgement]) -> Iterator[tuple[Member, dict[str, Estimate]]]:
    """Of every judge model, what its missing replies will take, by benchmark entry."""
    for judge, own in by_judge(judgements):
        if judge.is_model:
            entries = dict.fromkeys(one.job.entry for one in own)
            yield judge, {entry: _missing([one for one in own if one.job.entry == entry]) for entry in entries}


def announce_cost(judgements: Sequence[Judgement], say: Callable[[str], None]) -> None:
    """Say how many replies, tokens and how much money each judge model will take for what is not there yet.

    Raises Refusal when that is more than the judge's budget.
    """
    for judge, by_entry in estimates(judgements):
        parts = by_entry.values()
        whole = Estimate(
            replies=sum(part.replies for part in parts),
            prompt_tokens=sum(part.prompt_tokens for part in parts),
            completion_tokens=sum(part.completion_tokens for part in parts),
            measured=sum(part.measured for part in parts),
        )
        if not whole.replies:
            continue
        said = f"{judge.label} is asked for {whole}"
        if judge.price is None:
            say(said)
            continue
        money = judge.price.of(whole.prompt_tokens, whole.completion_tokens)
        if judge.budget is not None and money > judge.budget:
            raise Refusal(
                f"{judge.label} would be asked for {whole}: about {spelt(money)} at its price, and judge.budget is"
                f" {judge.budget:g}; raise it, judge fewer models, or lower judge.repeats. Nothing was asked"
            )
        say(f"{said}: about {spelt(money)} at its price")


def cost_note(costs: Sequence[JudgeCost]) -> list[str]:
    """One sentence for the report; none where no judge counted tokens."""
    tokens = sum(found.prompt_tokens + found.completion_tokens for found in costs)
    if not tokens:
        return []
    money = [found.money for found in costs if found.money is not None]
    said = f" and cost {spelt(sum(money))}" if money else ""
    replies, asked = sum(found.replies for found in costs), sum(found.asked for found in costs)
    return [f"Judging took {tokens:,} tokens in {replies:,} replies{said}; {asked:,} were asked for by this run."]


def spelt(money: float) -> str:
    """An amount with two decimals, or two digits where that would say nothing."""
    return f"{money:,.2f}" if money >= 0.1 or not money else f"{money:.2g}"


def _missing(judgements: Sequence[Judgement]) -> Estimate:
    """What one judge's missing replies on one benchmark will take, at the rates of its earlier replies there."""
    earlier: list[tuple[JudgeRequest, Verdict | Unscored]] = []
    wanted: dict[int, list[JudgeRequest]] = {1: [], 2: []}
    for judgement in judgements:
        for repeat in range(judgement.judge.repeats):
            done = {record.place: record for record in judgement.found(repeat) if not needs_asking(record)}
            for request in judgement.asking(repeat).requests:
                if request.place not in done:
                    wanted[judgement.layer].append(request)
                elif judgement.layer == 1:
                    earlier.append((request, done[request.place]))
    reviews = max((len(judgement.first) for judgement in judgements), default=0)
    first, second = estimate(wanted[1], earlier), estimate(wanted[2], earlier, reviews=reviews)
    return Estimate(
        replies=first.replies + second.replies,
        prompt_tokens=first.prompt_tokens + second.prompt_tokens,
        completion_tokens=first.completion_tokens + second.completion_tokens,
        measured=first.measured,
    )
