"""Decoding from several models at once, whose tokenizers and templates may all differ.

Our reading, where PackLLM's formulas leave it open:
- Each model sees the conversation in its own chat template and the answer so far in its own tokens: the text so far is
  tokenised again at every step (the released code maps the reference's ids one by one instead, which gives the other
  models texts they would never see).  A model with the reference's tokenizer is given the reference's own ids.
- The reference, in whose vocabulary is chosen, is the model with the lowest NLL, anew for each turn of the user.
- A logit of the reference's token is, in another model, that of the token of equal text, else of the nearest by edit
  distance.  What ends a turn corresponds by role; other special tokens correspond to nothing.
- The prompt's NLL is over the tokens of what the user said; templates are not counted.
- For `opt`, models are compared at those tokens of the reference before which another model's token begins as well.

There is no cache: a step is one forward pass of every weighted model over the whole context.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.benchmarks.protocol import next_messages
from eval.ensembles.packllm import Evidence, PackLLM
from eval.ensembles.vocabulary_map import map_into, token_texts
from eval.likelihood.chat_text import ChatText, ChatTokens, chat_text, chat_tokens
from eval.likelihood.local_model import LocalModel
from eval.likelihood.surprise import surprise
from eval.records import Question
from fusion.runtime.configure import Refusal


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A conversation as one model is given it."""

    messages: Sequence[Mapping[str, str]]
    text: ChatText
    tokens: ChatTokens


class Mixture:
    """Models that answer together."""

    def __init__(self, models: Sequence[LocalModel]) -> None:
        for model in models:
            if not model.ends:
                raise Refusal("a source names no token that ends its turn: set eos_token_id in generation_config.json")
        self.models = models
        self._content = [model.tokenizer.backend_tokenizer.to_str() for model in models]
        self._texts = [token_texts(model.tokenizer) for model in models]
        self._maps: dict[tuple[int, int], NDArray[np.int64]] = {}

    def answer(self, question: Question, rule: PackLLM, max_tokens: int) -> tuple[str, ...]:
        """The turns of the answer.  Raises ValueError, naming the turn, when one cannot be begun."""
        said: list[str] = []
        for turn in range(len(question.turns)):
            try:
                said.append(self._turn(next_messages(question, said), rule, max_tokens))
            except ValueError as error:
                raise Unanswerable(tuple(said), f"turn {turn + 1}: {error}") from error
        return tuple(said)

    def weights(self, prompts: Sequence[Prompt], rule: PackLLM) -> tuple[int, NDArray[np.float64]]:
        """The reference model and every model's weight for one prompt."""
        nll = []
        for model, prompt in zip(self.models, prompts, strict=True):
            mean = surprise(prompt.messages, prompt.text, prompt.tokens, model.log_probs).prompt.mean(rule.per)
            if mean is None:
                raise ValueError("the user says nothing whose likelihood could be taken")
            nll.append(mean)
        reference = int(np.argmin(nll))
        return reference, rule.weights(nll, lambda: self.evidence(reference, prompts))

    def evidence(self, reference: int, prompts: Sequence[Prompt]) -> Evidence:
        """All models' logits where the reference's tokens of the user's text begin, as far as a token begins there."""
        begins = [token_starts(prompt) for prompt in prompts]
        places = list(begins[reference])
        ids = prompts[reference].tokens.ids
        known = np.array([[place in own for place in places] for own in begins]).reshape(len(prompts), len(places))
        logits = []
        for number, (prompt, own) in enumerate(zip(prompts, begins)):
            rows = np.zeros((len(places), len(self._texts[reference])))
            if known[number].any():
                before = [own[place] - 1 for place in places if place in own]
                found = self.models[number].logits(prompt.tokens.ids, before)
                rows[known[number]] = self._in_reference(reference, number, found)
            logits.append(rows)
        targets = np.array([ids[begins[reference][place]] for place in places], np.int64)
        return Evidence(logits=logits, known=known, targets=targets)

    def _turn(self, messages: Sequence[Mapping[str, str]], rule: PackLLM, max_tokens: int) -> str:
        prompts = [self._prompt(model, messages) for model in self.models]
        reference, weights = self.weights(prompts, rule)
        tokenizer, ends = self.models[reference].tokenizer, self.models[reference].ends
        said: list[int] = []
        while len(said) < max_tokens:
            text = str(tokenizer.decode(said, skip_special_tokens=True)).rstrip("\ufffd")
            logits = np.zeros(len(self._texts[reference]))
            for number in np.flatnonzero(weights):
                ids = self._context(reference, int(number), prompts[number], said, text)
                if len(ids) >= self.models[number].longest:
                    return text
                found = self.models[number].logits(ids, [-1])
                logits += weights[number] * self._in_reference(reference, int(number), found)[0]
            chosen = int(np.argmax(logits))
            if chosen in ends:
                break
            said.append(chosen)
        return str(tokenizer.decode(said, skip_special_tokens=True))

    def _prompt(self, model: LocalModel, messages: Sequence[Mapping[str, str]]) -> Prompt:
        text = chat_text(model.template, messages)
        tokens = chat_tokens(model.tokenizer, text.text)
        if len(tokens.ids) >= model.longest:
            raise ValueError(f"the prompt has {len(tokens.ids)} tokens, a model's limit is {model.longest}")
        return Prompt(messages=messages, text=text, tokens=tokens)

    def _context(self, reference: int, number: int, prompt: Prompt, said: Sequence[int], text: str) -> list[int]:
        if self._content[number] == self._content[reference]:
            return [*prompt.tokens.ids, *said]
        return self.models[number].ids(prompt.text.text + text)

    def _in_reference(self, reference: int, number: int, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """A model's logits [P, V] for the reference's tokens [P, V of the reference]."""
        if self._content[number] == self._content[reference]:
            return logits[:, : len(self._texts[reference])]
        if (reference, number) not in self._maps:
            self._maps[reference, number] = map_into(self._texts[reference], self._texts[number])
        ids = self._maps[reference, number]
        found = np.where(ids >= 0, logits[:, ids], -np.inf)
        found[:, list(self.models[reference].ends)] = logits[:, list(self.models[number].ends)].max(axis=1)[:, None]
        return np.asarray(found, np.float64)


class Unanswerable(Exception):
    """A turn could not be begun; `turns` are those before it."""

    def __init__(self, turns: tuple[str, ...], reason: str) -> None:
        super().__init__(reason)
        self.turns = turns


def token_starts(prompt: Prompt) -> dict[tuple[int, int], int]:
    """Where tokens of the user's text begin: (message, characters of it before the token) to the token's place.

    Left out are tokens whose border the offsets do not show: within a character, or beside trimmed white space.
    """
    found: dict[tuple[int, int], int] = {}
    offsets = prompt.tokens.offsets
    for number, (message, (start, end)) in enumerate(zip(prompt.messages, prompt.text.spans, strict=True)):
        if message["role"] != "user":
            continue
        content = message["content"]
        cut = len(content) - len(content.lstrip()) if end - start != len(content) else 0
        for place in prompt.tokens.within(start, end):
            if place == 0:
                continue
            (before, border), (begin, _) = offsets[place - 1], offsets[place]
            gap = prompt.text.text[border:begin]  # some tokenizers leave the leading space out of a token's offsets
            if before < border and start <= border <= begin and gap in ("", " "):
                found[number, border - start + cut] = place
    return found
