"""Two answers shown as "m" and "M", and which one a judge prefers: alpaca-eval's annotators, read from its package.

An annotator is a folder of the installed package: a prompt and a configs.yaml that says how the reply is requested and
parsed.  The prompt text, the request fields and the parsing functions are the package's; which answer is shown first is
drawn from the instruction exactly as the package draws it, so published annotations differ from ours in the judge
alone.
"""

from __future__ import annotations

import functools
import math
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import yaml

from eval.exchange import Reply
from eval.records import Unscored, Verdict, Verdicts
from eval.scores.alpaca_package import alpaca_folder, alpaca_module
from fusion.runtime.configure import Refusal, nearest

# Orders of showing (`eval.records.Place`): the package's draw, the model's answer first, the model's answer second.
AS_PUBLISHED, SHOWN_FIRST, SHOWN_SECOND = 0, 1, 2
# Of the first token's probability, at least so much must be on the tokens that are verdicts: what is divided below that
# is noise, and a judge that thinks aloud first has next to nothing there.
_LEAST_WEIGHT = 0.01
_FIELDS = re.compile(r"\{(instruction|output_1|output_2)\}")
_CHATML = re.compile(r"<\|im_start\|>(system|user|assistant)\n(.*?)<\|im_end\|>", re.DOTALL)


def _first_token(reply: Reply) -> object:
    if not reply.top_logprobs:
        raise ValueError("the endpoint returned no token probabilities, which this annotator reads")
    top = [{"token": token, "logprob": logprob} for token, logprob in reply.top_logprobs]
    return {"logprobs": {"content": [{"top_logprobs": top}]}}


def _text(reply: Reply) -> object:
    return reply.text


# By the package's parser: the form that it reads, and a reply as it takes it.
_FORMS: Mapping[str, tuple[str, Callable[[Reply], object]]] = {
    "logprob_parser": ("preference_token", _first_token),
    "pipeline_meta_parser": ("ranked_models", _text),
}


@dataclass(frozen=True, kw_only=True)
class Annotator:
    """One of the package's annotators.  `prompt` holds (role, text) with its three placeholders still open."""

    name: str
    form: str
    parser: str
    parser_settings: Mapping[str, object]
    prompt: tuple[tuple[str, str], ...]
    temperature: float
    max_tokens: int
    top_logprobs: int | None
    extra: Mapping[str, object] | None

    def messages(self, *, instruction: str, first: str, second: str) -> tuple[Mapping[str, str], ...]:
        """The prompt filled in.  All placeholders are replaced in one pass over the package's own text, so braces and
        chat markers inside an answer stay what they are: text.
        """
        values = {"instruction": instruction, "output_1": first, "output_2": second}
        return tuple(
            {"role": role, "content": _FIELDS.sub(lambda match: values[match.group(1)], text)}
            for role, text in self.prompt
        )

    def preference(self, reply: Reply, *, switched: bool) -> float:
        """1 to 2: how much the model's answer (2) is preferred to the baseline's (1), order undone.

        Raises ValueError when the reply does not say.
        """
        value = self._shown_preference(reply)
        return 3 - value if switched else value

    def _shown_preference(self, reply: Reply) -> float:
        parse = getattr(alpaca_module("completion_parsers"), self.parser)
        _, completion_of = _FORMS[self.parser]
        completion = completion_of(reply)
        verdicts = self.parser_settings.get("denominator_tokens")
        if isinstance(verdicts, list):  # a parser that divides the weight of one token by that of all of these
            weight = math.fsum(math.exp(logprob) for token, logprob in reply.top_logprobs if token in verdicts)
            if 0 < weight < _LEAST_WEIGHT:
                raise ValueError(
                    f"its first token is {' or '.join(verdicts)} with probability {weight:.2g}: the judge was about to"
                    " say something else"
                )
        try:
            (value,) = parse(completion, **self.parser_settings)
        except Exception as error:  # the package's parsers raise whatever the reply makes them raise
            raise ValueError(f"{self.parser} cannot read the reply ({type(error).__name__}: {error})") from error
        if not isinstance(value, (int, float)) or math.isnan(value):
            raise ValueError(f"{self.parser} finds no preference in the reply")
        return 1.5 if value == 0 else float(value)


@dataclass(frozen=True, kw_only=True)
class JudgedPair:
    """What the judge made of one pair, over the orders in which it was shown.

    `preference`: 1 to 2, the mean over orders; None with a `reason` where one of them is unscored.  `first_bias`: how
    much more than half the answer shown first was preferred on average over both orders, -0.5 to 0.5; None where the
    pair was not shown in both.
    """

    preference: float | None
    reason: str | None = None
    first_bias: float | None = None


def judged_pairs(verdicts: Verdicts) -> dict[str, JudgedPair]:
    """The judged pair of every question that has a record."""
    records: dict[str, list[Verdict | Unscored]] = {}
    for record in verdicts:
        records.setdefault(record.question_id, []).append(record)
    return {question: _judged_pair(found) for question, found in records.items()}


def _judged_pair(records: Verdicts) -> JudgedPair:
    values = {record.order: record.value for record in records if isinstance(record, Verdict)}
    reason = next((record.reason for record in records if isinstance(record, Unscored)), None)
    if reason is not None:
        return JudgedPair(preference=None, reason=reason)
    preference = math.fsum(values.values()) / len(values)
    if SHOWN_FIRST not in values or SHOWN_SECOND not in values:
        return JudgedPair(preference=preference)
    # Shown first the model is preferred by `first - 1`; shown second the baseline is, by `2 - second`.
    bias = (values[SHOWN_FIRST] - values[SHOWN_SECOND]) / 2
    return JudgedPair(preference=preference, first_bias=bias)


def shown_switched(instruction: str) -> bool:
    """Whether the model's answer is shown first: the package's draw, seeded by the instruction."""
    return random.Random(f"is_switched_outputs{instruction}0").choices([False, True])[0]


@functools.cache
def annotator(name: str) -> Annotator:
    """An annotator of the installed package.  Raises Refusal when it is unknown or cannot be read here."""
    folder = alpaca_folder() / "evaluators_configs"
    path = folder / name / "configs.yaml"
    if not path.exists():
        known = [found.parent.name for found in folder.glob("*/configs.yaml")]
        raise Refusal(f"alpaca-eval has no annotator {name!r}: {nearest(name, known)}")
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))[name]
    parser = settings["fn_completion_parser"]
    if parser not in _FORMS or settings.get("batch_size", 1) != 1:
        raise Refusal(
            f"annotator {name} is read by {parser}: supported are weighted_alpaca_eval_gpt4_turbo and its kind"
        )
    prompt = (folder / settings["prompt_template"]).read_text(encoding="utf-8")
    request = dict(settings["completions_kwargs"])
    request.pop("model_name")
    request.pop("logprobs", None)
    return Annotator(
        name=name,
        form=_FORMS[parser][0],
        parser=parser,
        parser_settings=settings.get("completion_parser_kwargs", {}),
        prompt=tuple((role, text.strip()) for role, text in _CHATML.findall(prompt)),
        temperature=float(request.pop("temperature", 0)),
        max_tokens=int(request.pop("max_tokens", 100)),
        top_logprobs=request.pop("top_logprobs", None),
        extra=request or None,
    )
