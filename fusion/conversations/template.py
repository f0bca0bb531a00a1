"""The checkpoint's own chat template, and which tokens of a rendered conversation are learned from.

A conversation is rendered as text, the text is tokenised as a whole, and a token is labelled when its characters lie in
an assistant's content; so are the token that ends the turn, and white space that stands behind the generation prompt.
Nothing is counted in tokens of headers, which is where the released code masks by hand-tuned -1 and -2.

Spans are bytes of the content, so two tokenizers with two templates can be compared at the same place of the same text:

    text      GPT4 Correct Assistant: Grüße<|end_of_turn|>
    tokens    ...          Assistant : ▁Gr ü ße <|end_of_turn|>
    spans                              0-2 2-4 4-7 7-7             (ü and ß are two bytes each)
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from fusion.conversations.byte_spans import byte_offsets, spell_out
from fusion.conversations.conversation import Conversation, Message
from fusion.conversations.placing import Misplaced, placed
from fusion.conversations.vocabulary import token_bytes
from fusion.runtime.configure import Refusal
from fusion.runtime.templates.folding import readings
from fusion.runtime.templates.rendering import TemplateFault, printable, rendered

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_PROBE = Conversation(
    id="(probe)", messages=(Message(role="user", content="Hi"), Message(role="assistant", content="Hello"))
)


@dataclass(frozen=True, kw_only=True)
class LabelledRow:
    """One conversation under one tokenizer and its own chat template: `T` tokens, `L` of them labelled."""

    conversation_id: str
    input_ids: NDArray[np.int32]  # [T]
    # [L] places of the labelled tokens in `input_ids`; each is predicted from the position before it.
    positions: NDArray[np.int32]
    turn: NDArray[np.int16]  # [L] number of the assistant turn
    # [L] first byte (UTF-8) of a token's text within its turn's content, clipped to it; of a turn's end token the
    # content's length, of the template's white space in front of the content where that begins.
    start: NDArray[np.int32]
    end: NDArray[np.int32]  # [L] the byte behind it
    # [turns] length of each turn's whole content, also where truncation cut it; turns without any label at the end are
    # left out.
    content_bytes: NDArray[np.int32]


def label_rows(
    tokenizer: PreTrainedTokenizerFast, conversations: Sequence[Conversation], *, max_length: int
) -> list[LabelledRow | None]:
    """Render, tokenise and label conversations; None where no label lies in the first `max_length` tokens.

    Two kinds of token in an assistant's content stay in the input and are not labelled: special tokens that the text
    spells out (`<s>` in a piece of HTML), which are no text, and tokens that no model produces after its prompt.  These
    hold characters of both the template and the content (`][` where `[/INST]` meets a Markdown link, or a line's end of
    the prompt joined with the answer's), or are the first behind a prompt that is split otherwise when it stands alone.

    A system turn that the template refuses or leaves out is read in front of the first user's text, a tool's turn as a
    user's, with a warning that counts them.  So are conversations that spell out special tokens, which the tokenizer
    takes for such wherever they stand.

    Raises Refusal when the tokenizer has no template, or when the template cannot render a conversation within bounds
    (`fusion.runtime.templates.rendering`), changes or leaves out what anybody says, does not continue from its own
    generation prompt or does not end turns with one token.
    """
    if not conversations:
        return []
    end_of_turn = end_of_turn_id(tokenizer)
    rows: list[LabelledRow | None] = []
    folded = split = 0
    for row, conversation in zip(_tokenised(tokenizer, conversations), conversations, strict=True):
        folded += row.folded
        split += sum(turn.ready is None for turn in row.turns)
        rows.append(_label(row, end_of_turn, conversation, max_length))
    if folded:
        warnings.warn(
            f"{folded} of {len(rows)} conversations have a system or tool turn that the chat template of"
            f" {_name(tokenizer)} refuses: its text is read in a user's turn",
            stacklevel=2,
        )
    answers = sum(message.role == "assistant" for row in conversations for message in row.messages)
    if split and answers > 1:  # of a single one nothing is to be counted
        warnings.warn(
            f"{_name(tokenizer)} splits the end of the prompt otherwise in front of {split} of {answers} answers than"
            " alone: the first token of these is not learned",
            stacklevel=2,
        )
    _say_control_tokens(tokenizer, conversations)
    return rows


def end_of_turn_id(tokenizer: PreTrainedTokenizerFast) -> int:
    """The id of the token with which the tokenizer's chat template ends every assistant turn.

    Whitespace between the content and that token is passed over.  Raises Refusal when there is no such token.
    """
    known = _END_OF_TURN.get(tokenizer)
    if known is not None and known[0] == tokenizer.chat_template:
        return known[1]
    (row,) = _tokenised(tokenizer, [_PROBE])
    (turn,) = row.turns
    end = _end_token(row, turn)
    if end is None:
        _refuse(tokenizer, "does not end every assistant turn with the same token, so a model could not learn to stop")
    found = int(row.ids[end])
    # An added token is matched whole in any text; another is a piece of the marker, or of what answers say too.
    added = tokenizer.added_tokens_decoder.get(found)
    written = row.text[row.first[end] : row.last[end]].decode(errors="replace").strip()
    if added is None or written != added.content.strip():
        marker = row.text[turn.end :].decode().strip()
        count = len(tokenizer(marker, add_special_tokens=False)["input_ids"])
        why = f"it takes {count}" if count > 1 else "it is ordinary or unknown text, which answers may have as well"
        _refuse(
            tokenizer,
            f"ends an assistant turn with {printable(marker)!r}, which no token of its vocabulary stands for alone"
            f" ({why}), so a model could not learn to stop",
        )
    if turn.ready is None:
        warnings.warn(
            f"{_name(tokenizer)} splits the end of its chat template's generation prompt otherwise when an answer"
            " follows: the first token of such answers is not learned",
            stacklevel=2,
        )
    _END_OF_TURN[tokenizer] = (tokenizer.chat_template, found)
    return found


def _say_control_tokens(tokenizer: PreTrainedTokenizerFast, conversations: Sequence[Conversation]) -> None:
    """Warn of conversations in which somebody says what the tokenizer takes for a special token."""
    special = [token for token in tokenizer.added_tokens_decoder.values() if token.special]
    if not special:
        return
    pattern = re.compile("|".join(re.escape(token.content) for token in special))
    normalizer = tokenizer.backend_tokenizer.normalizer
    loose = {} if normalizer is None else {normalizer.normalize_str(t.content): t for t in special if t.normalized}
    loosely = re.compile("|".join(map(re.escape, loose)) or r"(?!)")

    def said(content: str) -> str | None:
        """The first special token in it, as it is written or as the tokenizer's normaliser has it."""
        if match := pattern.search(content):
            return match.group()
        match = loosely.search(normalizer.normalize_str(content)) if loose else None
        return None if match is None else str(loose[match.group()])

    found = [
        (conversation, token)
        for conversation in conversations
        if (token := next(filter(None, (said(message.content) for message in conversation.messages)), None))
    ]
    if found:
        first, token = found[0]
        warnings.warn(
            f"{len(found)} of {len(conversations)} conversations spell out special tokens of {_name(tokenizer)}, which"
            f" reads them as such, not as text, and learns none of them (first: {token} in '{first.id}')",
            stacklevel=3,
        )


_END_OF_TURN: WeakKeyDictionary[PreTrainedTokenizerFast, tuple[str, int]] = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class _AssistantTurn:
    """Where an assistant's content lies in the rendered text, in bytes; `skipped` bytes of its beginning are not there
    because the template trims whitespace, and `length` is that of the content as given.  `ready` tokens are those of
    the turn's generation prompt alone; None where the text's first ones differ from them."""

    start: int
    end: int
    skipped: int
    length: int
    ready: int | None


@dataclass(frozen=True, kw_only=True)
class _Tokens:
    """A rendered, tokenised conversation: each token's first and past-the-last byte in the text."""

    text: bytes
    ids: NDArray[np.int32]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    special: NDArray[np.bool_]
    turns: Sequence[_AssistantTurn]
    folded: bool


def _label(row: _Tokens, end_of_turn: int, conversation: Conversation, max_length: int) -> LabelledRow | None:
    positions, turns, starts, ends, leads = [], [], [], [], []
    for number, turn in enumerate(row.turns):
        lead = _lead(row, turn)
        inside = np.flatnonzero((row.last > turn.start) & (row.first < turn.end) & ~row.special)
        inside = inside[1:] if turn.ready is None else inside[inside >= turn.ready]
        if len(inside) and _runs_over(row, turn, int(inside[-1])):
            inside = inside[:-1]
        stop = _end_token(row, turn)
        if stop is None or row.ids[stop] != end_of_turn:
            raise Refusal(
                f"conversation '{conversation.id}': the chat template does not end assistant turn {number + 1} with the"
                f" token {end_of_turn} that ends other turns; pin another template with chat_template in conf/model"
            )
        offset = turn.skipped - turn.start
        positions.append(np.concatenate([lead, inside, [stop]]))
        turns.append(np.full(len(positions[-1]), number))
        at_first = np.full(len(lead), turn.skipped)
        starts.append(np.concatenate([at_first, np.maximum(row.first[inside], turn.start) + offset, [turn.length]]))
        ends.append(np.concatenate([at_first, np.minimum(row.last[inside], turn.end) + offset, [turn.length]]))
        leads.append(np.arange(len(positions[-1])) < len(lead))
    at = np.concatenate(positions)
    kept = (at < max_length) & (at > 0)
    text = np.flatnonzero(kept & ~np.concatenate(leads))
    if not len(text):
        return None
    kept[text[-1] + 1 :] = False  # white space in front of an answer that was cut off
    turn_of = np.concatenate(turns)[kept].astype(np.int16)
    return LabelledRow(
        conversation_id=conversation.id,
        input_ids=row.ids[:max_length],
        positions=at[kept].astype(np.int32),
        turn=turn_of,
        start=np.concatenate(starts)[kept].astype(np.int32),
        end=np.concatenate(ends)[kept].astype(np.int32),
        content_bytes=np.array([turn.length for turn in row.turns[: int(turn_of[-1]) + 1]], np.int32),
    )


def _lead(row: _Tokens, turn: _AssistantTurn) -> NDArray[np.int64]:
    """The tokens of white space that the template writes between its generation prompt and the answer: a model that is
    served behind that prompt has to write them."""
    answer = np.flatnonzero((row.last > turn.start) & (row.first < turn.end))
    if turn.ready is None or not len(answer):
        return np.zeros(0, np.int64)
    between = slice(turn.ready, int(answer[0]))
    # But those that a tokenizer adds, which spell nothing, and what is unknown to it.
    return turn.ready + np.flatnonzero((row.last[between] > row.first[between]) & ~row.special[between])


def _runs_over(row: _Tokens, turn: _AssistantTurn, position: int) -> bool:
    """Whether the token spells more of the template behind the content than whitespace."""
    return bool(row.text[turn.end : int(row.last[position])].strip())


def _end_token(row: _Tokens, turn: _AssistantTurn) -> int | None:
    """The first token after the content that is not whitespace of the template."""
    position = int(np.searchsorted(row.first, turn.end, side="left"))
    if position and row.special[position - 1] and row.last[position - 1] > turn.end:
        position -= 1  # a special token that swallows the whitespace before it
    while position < len(row.ids):
        if row.special[position] or row.text[row.first[position] : row.last[position]].strip():
            return position
        position += 1
    return None


# ------------------------------------------------------------------------------------------------ rendering
@dataclass(frozen=True, kw_only=True)
class _Text:
    """A conversation as its template renders it.  Of each assistant turn: where its content lies in the characters of
    the text, what of the content's beginning is not there and how long it is (bytes), and the generation prompt."""

    text: str
    contents: Sequence[tuple[int, int, int, int]]
    prompts: Sequence[str | None]  # None where the text does not continue the prompt to the character
    folded: bool  # the template refuses a turn of these roles, which is in a user's turn instead


def _tokenised(tokenizer: PreTrainedTokenizerFast, conversations: Sequence[Conversation]) -> Iterator[_Tokens]:
    rendered = [_rendered(tokenizer, conversation) for conversation in conversations]
    encoded = _encoded(tokenizer, [row.text for row in rendered], return_offsets_mapping=True)
    asked = _encoded(tokenizer, [prompt for row in rendered for prompt in row.prompts if prompt is not None])
    prompt_ids = iter(asked["input_ids"])
    spelled = token_bytes(tokenizer)
    no_text = np.array([piece is None for piece in spelled], bool)
    for row, ids, offsets in zip(rendered, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        raw = row.text.encode()
        byte_at = byte_offsets(row.text, len(raw))
        token_ids = np.array(ids, np.int32)
        special = no_text[token_ids]
        spans = byte_at[np.fromiter(chain.from_iterable(offsets), np.int64, 2 * len(ids))]
        first, last = spans[::2].copy(), spans[1::2].copy()
        spell_out(raw, [spelled[token_id] or b"" for token_id in ids], special, first, last)
        turns = []
        for (begin, end, skipped, length), prompt in zip(row.contents, row.prompts, strict=True):
            before = None if prompt is None else next(prompt_ids)
            ready = len(before) if before is not None and ids[: len(before)] == before else None
            turns.append(
                _AssistantTurn(
                    start=int(byte_at[begin]), end=int(byte_at[end]), skipped=skipped, length=length, ready=ready
                )
            )
        yield _Tokens(text=raw, ids=token_ids, first=first, last=last, special=special, turns=turns, folded=row.folded)


def _encoded(tokenizer: PreTrainedTokenizerFast, texts: list[str], **wanted: bool) -> Mapping[str, Any]:
    if not texts:
        return {"input_ids": []}
    found: Mapping[str, Any] = tokenizer(
        texts,
        add_special_tokens=False,  # the template writes them
        padding=False,
        truncation=False,
        return_attention_mask=False,
        verbose=False,
        **wanted,
    )
    return found


def _rendered(tokenizer: PreTrainedTokenizerFast, conversation: Conversation) -> _Text:
    """The conversation in the first reading that the template takes whole.

    Where none helps, it is refused for what the last that could be rendered lacks, or as the template refused the
    first.
    """
    if not tokenizer.chat_template:
        _refuse(tokenizer, "is missing")
    given = tokenizer.special_tokens_map
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:  # several, none of which is the default
        _refuse(tokenizer, f"cannot be chosen ({printable(str(error))})")
    turns = [{"role": message.role, "content": message.content} for message in conversation.messages]
    refused, misplaced = [], []
    for number, reading in enumerate(readings(turns)):
        try:
            found = rendered(template, reading, given=given)
            contents = placed(found, reading, conversation.id)
        except TemplateFault as fault:
            refused.append(f"cannot render conversation '{conversation.id}' ({fault})")
        except Misplaced as fault:
            misplaced.append(str(fault))
        else:
            prompts = [None if prompt.rest else found.text[: prompt.shared] for prompt in found.prompts]
            return _Text(text=found.text, contents=contents, prompts=prompts, folded=number > 0)
    _refuse(tokenizer, misplaced[-1] if misplaced else refused[0])


def _refuse(tokenizer: PreTrainedTokenizerFast, what: str) -> NoReturn:
    raise Refusal(f"the chat template of {_name(tokenizer)} {what}. Pin one that does with chat_template in conf/model")


def _name(tokenizer: PreTrainedTokenizerFast) -> str:
    return tokenizer.name_or_path or "this tokenizer"
