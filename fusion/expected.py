"""How many dialogues a planned experiment fuses on, and how long they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fusion.conversations.conversation import DataConfig, load_conversations
from fusion.experiment import FusionConfig
from fusion.pocket.dialogues import DOMAINS, PocketData
from fusion.runtime.configure import Refusal, typed
from fusion.runtime.work import CHARACTERS_PER_TOKEN, Dialogues

# Of the pocket set in the pocket models' tokenizers, template included; counted over its 900 fusion dialogues.
_POCKET_TOKENS, _POCKET_LABELLED = 23.3, 8.6


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What files of conversations hold, for a plan made without them: tokens a conversation, of these `labelled`."""

    conversations: int
    tokens: float
    labelled: float
    source: str


def dialogues_of(config: FusionConfig, expected: Mapping[str, Any] | None) -> Dialogues:
    """How many dialogues an experiment fuses on, and how long they are.

    Raises Refusal when the files are not there and nobody says what they hold.
    """
    data = config.data
    if isinstance(data, PocketData):
        each = data.train + data.fusion + data.questions + data.instructions
        return Dialogues(
            count=len(DOMAINS) * data.fusion,
            tokens=_POCKET_TOKENS,
            labelled=_POCKET_LABELLED,
            written=len(DOMAINS) * each,
        )
    if expected is not None:
        known = typed(expected, Expected, at="expected")
        return _drawn(known.conversations, known.tokens, known.labelled, config)
    if not all(path.is_file() for path in data.paths()):
        raise Refusal(
            f"data.files {', '.join(map(str, data.paths()))} are not there, and nothing says what they"
            " hold: put them there, or set +expected='{conversations: N, tokens: each, labelled: of these, source: who"
            " says so}'"
        )
    found = load_conversations(data, seed=config.seed)
    said = [message for conversation in found for message in conversation.messages]
    tokens = sum(len(message.content) for message in said) / CHARACTERS_PER_TOKEN
    labelled = sum(len(message.content) for message in said if message.role == "assistant") / CHARACTERS_PER_TOKEN
    return _drawn(len(found), tokens / len(found), labelled / len(found), config)


def _drawn(count: int, tokens: float, labelled: float, config: FusionConfig) -> Dialogues:
    assert isinstance(config.data, DataConfig)
    drawn = round(min(count, config.data.max_conversations or math.inf) * config.data_share)
    return Dialogues(count=drawn, tokens=tokens, labelled=labelled, written=drawn)
