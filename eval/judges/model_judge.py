"""Settings shared by all judges that are language models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from eval.judges.completions import ReplyKind
from eval.judges.price import Price
from eval.judges.protocol import Member
from eval.serve import Serve
from eval.serve.endpoint_client import Patience


@dataclass(frozen=True, kw_only=True)
class ModelJudge(Member):
    """Settings that a judge model has wherever it runs."""

    is_model: ClassVar[bool] = True

    concurrency: int = 8
    timeout_seconds: float = 120.0
    attempts: int = 6
    longest_wait_seconds: float = 60.0
    # Further fields of the request's body, which replace the benchmark's own (`{temperature: 0.7}`).
    extra: Mapping[str, object] | None = None
    repeats: int = 1  # how often each request is asked; the mean counts
    # How often a request is asked whose reply cannot be read (a refusal, a rating out of range) before it stays
    # unscored; the published protocols ask once.
    readings: int = 1
    reply: ReplyKind = "text"  # in words, or as JSON
    family: str | None = None  # whose model it is, for the warning before it judges relatives
    price: Price | None = None
    budget: float | None = None  # refuse to begin when the estimate at `price` exceeds it

    def __post_init__(self) -> None:
        for name in ("repeats", "readings"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected at least 1")
        _ = self.patience  # checks its own range
        if self.budget is not None and (self.price is None or self.budget <= 0):
            raise ValueError(f"budget is {self.budget}: expected more than 0, and a price to hold it against")

    @property
    def patience(self) -> Patience:
        return Patience(
            concurrency=self.concurrency,
            timeout_seconds=self.timeout_seconds,
            attempts=self.attempts,
            longest_wait_seconds=self.longest_wait_seconds,
        )

    def modules(self, benchmark: str, reading: str, served_as: Serve) -> tuple[str, ...]:
        return "eval.judges.completions", "eval.benchmarks.slots", reading

    def labelled(self, name: str) -> str:
        """`name`, marked where the judge replies in JSON: the same model, asked in another way."""
        return f"{name} (json)" if self.reply == "json" else name
