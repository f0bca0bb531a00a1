"""Of each question the answer of the source with the lowest perplexity: Top1-PPL of FuseChat's Table 1 (2408.07990).

The paper does not say whose perplexity.  PackLLM's Top-1 (2404.11531), where the name comes from, takes that of the
prompt: the model that is least surprised by the question answers it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from eval.ensembles.selection import Need, Option, Options, Selects, best


@dataclass(frozen=True, kw_only=True)
class Top1PPL(Selects):
    """`of` the prompt (the user's turns) or of the source's own answer; `per` token of the source's own tokenizer, as
    published, or per byte, which tokenizers of different sizes cannot bias.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"perplexities"})

    of: Literal["prompt", "answer"] = "prompt"
    per: Literal["token", "byte"] = "token"

    def choose(self, options: Options) -> dict[str, int]:
        return {question_id: best(offered, self._certainty) for question_id, offered in options.items()}

    def _certainty(self, option: Option) -> float | None:
        """Minus the log of the perplexity: mean negative log-likelihood in nats, sign turned."""
        if option.surprise is None:
            return None
        share = option.surprise.prompt if self.of == "prompt" else option.surprise.answer
        mean = share.mean(self.per)
        return None if mean is None else -mean
