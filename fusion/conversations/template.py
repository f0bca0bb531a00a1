"""The checkpoint's own chat template, and which tokens of a rendered conversation are learned from.

A conversation is rendered as text, the text is tokenised as a whole, and a token is labelled when its characters lie in
an assistant's content; the token that ends the turn is labelled too.  Nothing is counted in tokens of headers, which is
where the released code masks by hand-tuned -1 and -2.

Spans are bytes of the content, so two tokenizers with two templates can be compared at the same place of the same text:

    text      GPT4 Correct Assistant: Grüße<|end_of_turn|>
    tokens    ...          Assistant : ▁Gr ü ße <|end_of_turn|>
    spans                              0-2 2-4 4-7 7-7             (ü and ß are two bytes each)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, NoReturn
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from fusion.conversations.conversation import Conversation, Message
from fusion.conversations.vocabulary import token_bytes
from fusion.runtime.configure import Refusal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_PROBE = Conversation(
    id="(probe)",
    messages=(
        Message(role="user", content="Hi"),
        Message(role="assistant", content="Hello"),
        Message(role="user", content="Hi"),
        Message(role="assistant", content="Hello"),
    ),
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
    # content's length.
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
    spells out (`<s>` in a piece of HTML), which are no text, and a token that holds characters of both the template
    and the content (`][` where `[/INST]` meets a Markdown link), which no model produces after its prompt.

    Raises Refusal when the tokenizer has no template, or when the template cannot render a conversation, changes its
    content, does not continue from its own generation prompt or does not end turns with one token.
    """
    if not conversations:
        return []
    end_of_turn = end_of_turn_id(tokenizer)
    return [
        _label(row, end_of_turn, conversation, max_length)
        for row, conversation in zip(_tokenised(tokenizer, conversations), conversations, strict=True)
    ]


def end_of_turn_id(tokenizer: PreTrainedTokenizerFast) -> int:
    """The id of the token with which the tokenizer's chat template ends every assistant turn.

    Whitespace between the content and that token is passed over.  Raises Refusal when there is no such token.
    """
    known = _END_OF_TURN.get(tokenizer)
    if known is not None and known[0] == tokenizer.chat_template:
        return known[1]
    (row,) = _tokenised(tokenizer, [_PROBE])
    ends = [_end_token(row, turn) for turn in row.turns]
    ids = {None if end is None else int(row.ids[end]) for end in ends}
    if len(ids) != 1 or None in ids:
        _refuse(tokenizer, "does not end every assistant turn with the same token, so a model could not learn to stop")
    found = int(row.ids[ends[0]])
    _END_OF_TURN[tokenizer] = (tokenizer.chat_template, found)
    return found


_END_OF_TURN: WeakKeyDictionary[PreTrainedTokenizerFast, tuple[str, int]] = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class _AssistantTurn:
    """Where an assistant's content lies in the rendered text, in bytes; `skipped` bytes of its beginning are not there
    because the template trims whitespace, and `length` is that of the content as given."""

    start: int
    end: int
    skipped: int
    length: int


@dataclass(frozen=True, kw_only=True)
class _Tokens:
    """A rendered, tokenised conversation: each token's first and past-the-last byte in the text."""

    text: bytes
    ids: NDArray[np.int32]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    special: NDArray[np.bool_]
    turns: Sequence[_AssistantTurn]


def _label(row: _Tokens, end_of_turn: int, conversation: Conversation, max_length: int) -> LabelledRow | None:
    positions, turns, starts, ends = [], [], [], []
    for number, turn in enumerate(row.turns):
        inside = np.flatnonzero((row.last > turn.start) & (row.first < turn.end) & ~row.special)
        if len(inside) and _holds_template(row, turn, int(inside[0])):
            inside = inside[1:]
        if len(inside) and _holds_template(row, turn, int(inside[-1])):
            inside = inside[:-1]
        stop = _end_token(row, turn)
        if stop is None or row.ids[stop] != end_of_turn:
            raise Refusal(
                f"conversation '{conversation.id}': the chat template does not end assistant turn {number + 1} with the"
                f" token {end_of_turn} that ends other turns; pin another template with chat_template in conf/model"
            )
        offset = turn.skipped - turn.start
        positions.append(np.append(inside, stop))
        turns.append(np.full(len(inside) + 1, number))
        starts.append(np.append(np.maximum(row.first[inside], turn.start) + offset, turn.length))
        ends.append(np.append(np.minimum(row.last[inside], turn.end) + offset, turn.length))
    at = np.concatenate(positions)
    kept = (at < max_length) & (at > 0)
    if not kept.any():
        return None
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


def _holds_template(row: _Tokens, turn: _AssistantTurn, position: int) -> bool:
    """Whether the token spells more of the template than whitespace."""
    first, last = int(row.first[position]), int(row.last[position])
    return bool((row.text[first : max(first, turn.start)] + row.text[min(last, turn.end) : last]).strip())


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
def _tokenised(tokenizer: PreTrainedTokenizerFast, conversations: Sequence[Conversation]) -> Iterator[_Tokens]:
    rendered = [_rendered(tokenizer, conversation) for conversation in conversations]
    encoded = tokenizer(
        [text for text, _ in rendered],
        add_special_tokens=False,  # the template writes them
        padding=False,
        truncation=False,
        return_attention_mask=False,
        return_offsets_mapping=True,
        verbose=False,
    )
    spelled = token_bytes(tokenizer)
    no_text = np.array([piece is None for piece in spelled], bool)
    for (text, contents), ids, offsets in zip(rendered, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        raw = text.encode()
        byte_at = _byte_offsets(text, len(raw))
        token_ids = np.array(ids, np.int32)
        special = no_text[token_ids]
        spans = byte_at[np.fromiter(chain.from_iterable(offsets), np.int64, 2 * len(ids))]
        first, last = spans[::2].copy(), spans[1::2].copy()
        _spell_out(raw, [spelled[token_id] or b"" for token_id in ids], special, first, last)
        turns = [
            _AssistantTurn(start=int(byte_at[begin]), end=int(byte_at[end]), skipped=skipped, length=length)
            for begin, end, skipped, length in contents
        ]
        yield _Tokens(text=raw, ids=token_ids, first=first, last=last, special=special, turns=turns)


def _byte_offsets(text: str, size: int) -> NDArray[np.int64]:
    """The byte offset of every character of `text`, and of its end."""
    if size == len(text):
        return np.arange(size + 1, dtype=np.int64)
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    widths = 1 + (points > 0x7F).astype(np.int64) + (points > 0x7FF) + (points > 0xFFFF)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(widths)])


def _rendered(
    tokenizer: PreTrainedTokenizerFast, conversation: Conversation
) -> tuple[str, list[tuple[int, int, int, int]]]:
    """The text, and per assistant turn: its content's characters in it, bytes skipped, and length in bytes."""
    messages = [{"role": message.role, "content": message.content} for message in conversation.messages]
    text = _apply(tokenizer, messages, conversation, generation_prompt=False)
    contents = []
    for number, message in enumerate(conversation.messages):
        if message.role != "assistant":
            continue
        prompt = _apply(tokenizer, messages[:number], conversation, generation_prompt=True)
        shown = message.content
        begin = _begin(text, prompt, shown)
        if begin is None:  # templates that trim
            shown = message.content.strip()
            begin = _begin(text, prompt, shown)
        if begin is None:
            _refuse(
                tokenizer,
                f"does not continue its own generation prompt with the assistant's content, or changes what was said"
                f" before (conversation '{conversation.id}', turn {number + 1}), so labels cannot be placed",
            )
        skipped = 0 if shown == message.content else len(message.content) - len(message.content.lstrip())
        skipped_bytes = len(message.content[:skipped].encode())
        contents.append((begin, begin + len(shown), skipped_bytes, len(message.content.encode())))
    return text, contents


def _begin(text: str, prompt: str, content: str) -> int | None:
    """Where `content` begins in `text` after `prompt`, which may differ from it in whitespace at its end."""
    if text.startswith(prompt) and text.startswith(content, len(prompt)):
        return len(prompt)
    stem = prompt.rstrip()
    if not text.startswith(stem):
        return None
    begin = len(stem)
    while not text.startswith(content, begin):
        if begin >= len(text) or not text[begin].isspace():
            return None
        begin += 1
    return begin


def _apply(
    tokenizer: PreTrainedTokenizerFast,
    messages: list[dict[str, str]],
    conversation: Conversation,
    *,
    generation_prompt: bool,
) -> str:
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        _refuse(tokenizer, "is missing")
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation_prompt))
    except (TemplateError, TypeError, KeyError) as error:
        _refuse(tokenizer, f"cannot render conversation '{conversation.id}' ({error})")


def _refuse(tokenizer: PreTrainedTokenizerFast, what: str) -> NoReturn:
    name = getattr(tokenizer, "name_or_path", "") or "this tokenizer"
    raise Refusal(f"the chat template of {name} {what}. Pin one that does with chat_template in conf/model")


# ------------------------------------------------------------------------------------------------ byte spans
def _spell_out(
    text: bytes,
    pieces: Sequence[bytes],
    special: NDArray[np.bool_],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
) -> None:
    """Make the spans exact to the byte, in place, where characters are shared by tokens or offsets are trimmed.

    Between two special tokens the pieces' bytes either spell the text there, perhaps after a dummy space, and their
    lengths are the spans; or a normaliser changed it, and the tokenizer's offsets stand.
    """
    borders = np.flatnonzero(special)
    begins = np.concatenate([[0], borders + 1])
    ends = np.concatenate([borders, [len(pieces)]])
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        if begin == end:
            continue
        low = int(last[begin - 1]) if begin else 0
        high = int(first[end]) if end < len(pieces) else len(text)
        run = pieces[begin:end]
        sizes = np.fromiter(map(len, run), np.int64, end - begin)
        joined = b"".join(run)
        dummy = len(joined) - (high - low)
        if dummy in (0, 1) and joined[dummy:] == text[low:high] and (dummy == 0 or joined[:1] == b" "):
            stops = low - dummy + np.cumsum(sizes)
            first[begin:end] = np.maximum(stops - sizes, low)
            last[begin:end] = np.maximum(stops, low)
        else:
            _share_out(text, low, high, sizes, first[begin:end], last[begin:end])


def _share_out(
    text: bytes, low: int, high: int, sizes: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64]
) -> None:
    """Offsets as the tokenizer gives them, with gaps closed and characters that tokens share split by their bytes."""
    reached = low
    for token in range(len(first)):
        if first[token] > reached:
            if token == 0 or text[reached : first[token]].isspace():
                first[token] = reached  # whitespace that offsets leave out belongs to the word after it
            else:
                last[token - 1] = first[token]  # a combining mark that was composed with the letter before it
        last[token] = max(last[token], first[token])
        reached = max(reached, int(last[token]))
    last[-1] = max(int(last[-1]), high)
    begin = 0
    while begin < len(first):
        end, until = begin + 1, int(last[begin])
        while end < len(first) and first[end] < until:
            until = max(until, int(last[end]))
            end += 1
        if end - begin > 1:
            origin, total = int(first[begin]), max(int(sizes[begin:end].sum()), 1)
            stops = origin + np.cumsum(sizes[begin:end]) * (until - origin) // total
            last[begin:end] = stops
            first[begin + 1 : end] = stops[:-1]
        begin = end
