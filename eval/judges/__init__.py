"""Who gives the verdict.  To add a judge: one file, one line here, one YAML in conf/judge."""

from eval.judges.exchange import JudgeRequest, Reply
from eval.judges.openai import OpenAI
from eval.judges.protocol import Judge
from eval.judges.recorded import Recorded
from eval.judges.reference import Reference

JUDGES: dict[str, type[Judge]] = {
    "reference": Reference,
    "openai": OpenAI,
    "recorded": Recorded,
}

__all__ = ["JUDGES", "Judge", "JudgeRequest", "OpenAI", "Recorded", "Reference", "Reply"]
