"""Who gives the verdict.  To add a judge: one file, one line here, one YAML in conf/judge.

In reading order:

    forms/                    how a reply says its verdict
    protocol.py               what a judge is
    price.py                  what a judge model's tokens cost
    reference.py              a known answer
    recorded.py               published verdicts, replayed
    completions.py            what is sent to a judge model, and what its completion says
    asking.py                 many requests at a time
    model_judge.py            settings of every judge that is a language model
    openai.py                 a model behind an endpoint
    served.py                 a model that we serve ourselves
    panel.py                  several judges whose verdicts become one
    kinship.py                judges that judge their own kind
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eval.exchange import JudgeRequest, Reply
from eval.judges.model_judge import ModelJudge
from eval.judges.openai import OpenAI
from eval.judges.panel import Panel
from eval.judges.price import Price
from eval.judges.protocol import Judge, Member
from eval.judges.recorded import Recorded
from eval.judges.reference import Reference
from eval.judges.served import Served
from eval.serve import SERVERS
from fusion.runtime.configure import Refusal, choose

JUDGES: dict[str, type[Member] | type[Panel]] = {
    "reference": Reference,
    "openai": OpenAI,
    "served": Served,
    "recorded": Recorded,
    "panel": Panel,
}


def judge_from(settings: Mapping[str, object], *, at: str) -> Member | Panel:
    """The judge that a composed config describes, with what it contains: a panel's members, a judge's own server.

    Raises Refusal for a name no table knows, an unknown or mistyped key, or a value out of range.
    """
    rest = dict(_with_server(settings, at=at))
    if "members" in rest:
        members = rest["members"]
        if not isinstance(members, Mapping):
            raise Refusal(f"{at}.members is {members!r}: expected judges by name, as {{a: {{name: openai, ...}}, ...}}")
        table = {name: kind for name, kind in JUDGES.items() if issubclass(kind, Member)}
        rest["members"] = {
            str(name): choose(table, _with_server(given, at=f"{at}.members.{name}"), at=f"{at}.members.{name}")
            for name, given in members.items()
        }
    return choose(JUDGES, rest, at=at)


def _with_server(settings: Any, *, at: str) -> Mapping[str, object]:
    if not isinstance(settings, Mapping):
        raise Refusal(f"{at} is {settings!r}: expected a judge's settings")
    if settings.get("serve") is None:
        return settings
    return {**settings, "serve": choose(SERVERS, settings["serve"], at=f"{at}.serve")}


__all__ = [
    "JUDGES",
    "Judge",
    "JudgeRequest",
    "Member",
    "ModelJudge",
    "OpenAI",
    "Panel",
    "Price",
    "Recorded",
    "Reference",
    "Reply",
    "Served",
    "judge_from",
]
