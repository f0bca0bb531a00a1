"""How much work a stage is: what a plan adds up before anything is computed.  No time, no money and no machine yet.

Tokens that a model learns from or predicts are counted as floating-point operations: 2 per parameter and token
forwards, 6 with the backward pass (Kaplan et al. 2020, arXiv 2001.08361, section 2.1), attention left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

CHARACTERS_PER_TOKEN = 4.0  # of text whose tokens nobody has counted
ADAM_BYTES = 8  # of its two moments beside each trained parameter's 4


@dataclass(frozen=True, kw_only=True)
class Work:
    """A stage's work, in the unit of its kind (`ablations.rates`)."""

    # Which rate it goes by: often the stage's name.
    kind: str
    # None where it is not known.
    units: float | None
    # What its rate's bytes are counted by: positions, replies, dialogues.
    items: float = 0
    # What stays on disk besides.
    bytes: float = 0
    # What is needed on disk while it runs.
    working: float = 0
    # Weights held in memory, in bytes.
    holds: float = 0
    # What training holds in memory, in bytes, activations and gradients apart.
    memory: float = 0


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a checkpoint is."""

    parameters: float
    # Those that a token meets: fewer in a mixture of experts.
    active: float
    # Of each parameter on disk.
    bytes_each: float
    # What an untrained pocket model is to learn from.
    conversations: int = 0

    @property
    def bytes(self) -> float:
        """On disk."""
        return self.parameters * self.bytes_each


@dataclass(frozen=True, kw_only=True)
class Dialogues:
    """The fusion set."""

    count: int
    # Tokens of each, and those of them that are the assistant's.
    tokens: float
    labelled: float
    # How many the data stage writes in all.
    written: int

    @property
    def positions(self) -> float:
        """Labelled tokens of all."""
        return self.count * self.labelled


@dataclass(frozen=True)
class Known:
    """What a planner knows when it asks a stage for its work."""

    dialogues: Dialogues
    # Of checkpoints, by the content that stages are made from.
    sizes: Mapping[str, Size]


# The work of a stage and, where it leaves a checkpoint, how large that is.
Weigh = Callable[[Known], tuple[Work, Size | None]]
