"""A second look: the same question to a judge, after it has read what several judges said at first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from eval.exchange import JudgeRequest
from eval.records import Unscored, Verdict


def review_request(request: JudgeRequest, reviews: Mapping[str, Verdict | Unscored], own: str) -> JudgeRequest | None:
    """The request of the second layer to the judge `own`: its first words, then everybody's, and the wish to judge
    again in the same form.  None when no judge gave a reply.
    """
    said = {name: review.text for name, review in reviews.items() if review.text}
    if not said:
        return None
    listed = "\n\n".join(
        f"[Review {number}{' (yours)' if name == own else ''}]\n{text}\n[End of review {number}]"
        for number, (name, text) in enumerate(said.items(), start=1)
    )
    wish = (
        "Several reviewers judged this, each without seeing the others. Their reviews follow.\n\n"
        f"{listed}\n\n"
        "Weigh their arguments against the text itself; they may be wrong, and so may you have been. Then give your own"
        " final judgment, in exactly the form that was asked for above."
    )
    if own in said:
        more = ({"role": "assistant", "content": said[own]}, {"role": "user", "content": wish})
        return replace(request, messages=(*request.messages, *more))
    *before, last = request.messages  # chat templates want the roles to alternate
    return replace(request, messages=(*before, {**last, "content": f"{last['content']}\n\n{wish}"}))
