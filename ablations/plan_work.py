"""How much work a stage is, from its settings and the sizes of its inputs; no time, no money and no machine yet.

Tokens that a model learns from or predicts are counted as floating-point operations: 2 per parameter and token
forwards, 6 with the backward pass (Kaplan et al. 2020, arXiv 2001.08361, section 2.1), attention left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eval.serve import Serve
from fusion.configure import Refusal, typed
from fusion.conversation import DataConfig, load_conversations
from fusion.experiment import FusionConfig
from fusion.pocket.dialogues import DOMAINS, PocketData
from fusion.pocket.models import PocketModel
from fusion.precision import ITEM_BYTES
from fusion.represent import RepresentConfig
from fusion.train.config import TrainConfig

CHARACTERS_PER_TOKEN = 4.0
# Of the pocket set in the pocket models' tokenizers, template included; counted over its 900 fusion dialogues.
_POCKET_TOKENS, _POCKET_LABELLED = 23.3, 8.6
_ADAM = 8  # bytes of its two moments beside each trained parameter's 4


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What files of conversations hold, for a plan made without them: tokens a conversation, of these `labelled`."""

    conversations: int
    tokens: float
    labelled: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Dialogues:
    """The fusion set: how many, and tokens of each; `written`: how many the data stage writes in all."""

    count: int
    tokens: float
    labelled: float
    written: int


@dataclass(frozen=True, kw_only=True)
class Size:
    """A checkpoint: its parameters, those that a token meets, bytes of each on disk.

    `conversations`: what an untrained pocket model is to learn from.
    """

    parameters: float
    active: float
    bytes_each: float
    conversations: int = 0

    @property
    def bytes(self) -> float:
        """On disk."""
        return self.parameters * self.bytes_each

    def held(self, serve: Serve) -> float:
        """Bytes in memory while it is served: on disk, unless the server takes the weights to another type."""
        types = {size: dtype for dtype, size in reversed([*ITEM_BYTES.items()])}
        served = serve.precision(types[round(self.bytes_each)])
        return self.bytes if served is None else self.parameters * ITEM_BYTES[served]


@dataclass(frozen=True, kw_only=True)
class Work:
    """How much a stage has to do, and what it needs meanwhile."""

    kind: str  # a kind of work that rates know
    units: float | None  # None where it is not known how many
    items: float = 0  # each leaves on disk what the rate says, besides `bytes`
    bytes: float = 0  # left on disk
    working: float = 0  # bytes on disk while the stage runs
    holds: float = 0  # bytes of weights in memory while the stage runs


def dialogues_of(config: FusionConfig, expected: Mapping[str, Any] | None) -> Dialogues:
    """How many dialogues an experiment fuses on, and how long they are.

    Raises Refusal when the files are not there and no setting says what they hold.
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
    if not all(Path(name).expanduser().is_file() for name in data.files):
        raise Refusal(
            f"data.files {', '.join(data.files)} are not there, and nothing says what they hold: put them there, or set"
            " +expected='{conversations: N, tokens: each, labelled: of these, source: who says so}'"
        )
    found = load_conversations(data, seed=config.seed)
    said = [message for conversation in found for message in conversation.messages]
    tokens = sum(len(message.content) for message in said) / CHARACTERS_PER_TOKEN
    labelled = sum(len(message.content) for message in said if message.role == "assistant") / CHARACTERS_PER_TOKEN
    return _drawn(len(found), tokens / len(found), labelled / len(found), config)


def pocket_size(config: PocketModel) -> Size:
    """An untrained pocket model: two embeddings and the layers' matrices, without norms and biases."""
    matrices = 2 if config.architecture == "gpt_neox" else 3
    layer = 4 * config.hidden_size**2 + matrices * config.hidden_size * config.intermediate_size
    parameters = float(2 * config.vocab_size * config.hidden_size + config.layers * layer)
    return Size(parameters=parameters, active=parameters, bytes_each=4, conversations=config.conversations)


def fusion_work(
    stage: str, config: Any, inputs: Mapping[str, str], dialogues: Dialogues, sizes: Mapping[str, Size]
) -> tuple[Work, Size | None]:
    """A stage of `fusion.pipeline`: its work, and of a checkpoint its size.  `sizes` are the checkpoints' by key."""
    positions = dialogues.count * dialogues.labelled
    if stage == "data":
        return Work(kind="dialogues", units=dialogues.written, items=dialogues.written), None
    if stage == "initialise":
        made = pocket_size(config)
        return Work(kind="initialise", units=made.conversations, items=made.conversations, bytes=made.bytes), made
    if stage in ("pretrain", "train"):
        initial = sizes[inputs["initial"]]
        return _training(config, initial, initial.conversations if stage == "pretrain" else dialogues.count, dialogues)
    if stage == "represent":
        return _representing(config, sizes[inputs["checkpoint"]], dialogues), None
    if stage == "merge":
        pivot, *targets = (sizes[key] for key in inputs.values())
        read = pivot.bytes + sum(target.bytes for target in targets)
        _, _, *asked = config
        dtype = asked[0]["dtype"] if asked else None
        widest = max(size.bytes_each for size in (pivot, *targets))
        merged = replace(pivot, bytes_each=ITEM_BYTES[dtype] if dtype else widest)
        return Work(kind="merge", units=read, bytes=merged.bytes), merged
    if stage in ("align", "fuse"):
        return Work(kind=stage, units=positions, items=positions), None
    return Work(kind=stage, units=None), None


def _training(config: TrainConfig, initial: Size, conversations: int, dialogues: Dialogues) -> tuple[Work, Size]:
    seen = config.max_steps * config.batch_size if config.max_steps else config.epochs * conversations
    trained = replace(initial, bytes_each=ITEM_BYTES[config.save_dtype], conversations=0)
    weights = 2 if config.precision == "bf16_pure" else 4
    work = Work(
        kind="train",
        units=6 * initial.active * seen * min(dialogues.tokens, config.max_length),
        items=math.ceil(seen / config.batch_size),
        bytes=trained.bytes,
        working=initial.parameters * (weights + _ADAM),
    )
    return work, trained


def _representing(config: RepresentConfig, size: Size, dialogues: Dialogues) -> Work:
    tokens = dialogues.count * min(dialogues.tokens, config.max_length)
    return Work(
        kind="represent",
        units=2 * size.active * tokens,
        items=dialogues.count * dialogues.labelled * config.k / 10,
        holds=size.parameters * (2 if config.dtype == "bfloat16" else 4),
    )


def _drawn(count: int, tokens: float, labelled: float, config: FusionConfig) -> Dialogues:
    assert isinstance(config.data, DataConfig)
    drawn = round(min(count, config.data.max_conversations or math.inf) * config.data_share)
    return Dialogues(count=drawn, tokens=tokens, labelled=labelled, written=drawn)
