"""The next checkpoint into a running vLLM server, or the reason why it must be restarted instead.

vLLM 0.32 swaps weights in place in milliseconds, with four traps: a checkpoint that lacks a tensor is answered with
200 and served as a blend; a wrong shape leaves the engine dead while /health still says 200; the prefix cache keeps
keys and values of the old weights; files replaced under an old path may be served stale.  So nothing is posted before
the two checkpoints were seen to agree in every header, and nothing is believed afterwards before the probe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.errors import ServerFailure
from eval.serve import probe
from eval.serve.checkpoint import Signature, differences
from eval.serve.control import Control
from eval.serve.vllm_log import complaint


@dataclass(frozen=True, kw_only=True)
class ServedCheckpoint:
    """What a server is serving: where from, its digest and signature, and what the probe expects and has seen."""

    checkpoint: Path
    weights: str
    signature: Signature
    expected: probe.Expectation | None
    seen: tuple[float, ...] | None

    @property
    def off(self) -> float | None:
        """How far the two are apart, in nats per token; None where one is missing."""
        if self.expected is None or self.seen is None:
            return None
        return probe.distance(self.seen, self.expected.log_probs)


def objection(now: ServedCheckpoint, wanted: ServedCheckpoint) -> str:
    """Why `wanted` may not be swapped in for `now`, decided from files alone; empty when it may."""
    if now.seen is None:
        return "without the probe nothing would show that the right weights answer"
    if now.checkpoint == wanted.checkpoint:
        return "the files changed in place, and the server may still read the old ones"
    found = differences(now.signature, wanted.signature)
    return f"{found[0]}{f' (and {len(found) - 1} more differences)' if len(found) > 1 else ''}" if found else ""


def swap(
    control: Control,
    *,
    model: str,
    now: ServedCheckpoint,
    wanted: ServedCheckpoint,
    tolerance: float,
    log: Path,
    replicas: Sequence[int | None] = (None,),
) -> tuple[str, tuple[float, ...]]:
    """Put `wanted` behind `control`: the doubt that calls for a restart, empty when none, and what was seen.

    Each of the `replicas` (`probe.served`) must prove itself.
    """
    start_of_news = log.stat().st_size if log.exists() else 0
    # How vLLM treats a bad path or shape: 500, or 200 with a warning in its log.
    body = {"method": "reload_weights", "kwargs": {"weights_path": str(wanted.checkpoint)}}
    status, reply = control.post("/collective_rpc", body)
    if status != 200:
        return f"reload_weights answered {status}: {str(reply)[:200]}", ()
    status, reply = control.post("/reset_prefix_cache")
    if status != 200 or (isinstance(reply, dict) and reply.get("success") is False):
        return f"reset_prefix_cache answered {status}: {str(reply)[:200]}", ()
    said = complaint(log, start_of_news)
    if said:
        return f"the server's log says: {said}", ()
    assert wanted.expected is not None  # objection() has seen to it
    why = ""
    seen: tuple[float, ...] = ()
    for replica in replicas:
        try:
            seen = probe.served(control, model=model, ids=wanted.expected.ids, replica=replica)
        except ServerFailure as error:
            return str(error), ()
        why = why or doubt(seen, now=now, wanted=wanted, tolerance=tolerance)
    return why, seen


def doubt(seen: tuple[float, ...], *, now: ServedCheckpoint, wanted: ServedCheckpoint, tolerance: float) -> str:
    """What the probe's values `seen` after a swap leave unproven; empty when they prove it.

    They must lie within `tolerance` of the new checkpoint's forward pass, be no closer to the old one's, and, where
    the weights differ at all, not repeat to the last bit what the server said before.
    """
    assert wanted.expected is not None
    error = probe.distance(seen, wanted.expected.log_probs)
    if not error <= tolerance:
        return f"the probe is {error:.4f} nats per token from the checkpoint's own forward pass, more than {tolerance}"
    if now.weights == wanted.weights or now.expected is None:
        return ""
    old = now.expected.log_probs
    if old != wanted.expected.log_probs:
        if seen == now.seen:
            return "the probe did not move at all"
        if probe.distance(seen, old) < error:
            return (
                "the probe is closer to the checkpoint served before"
                f" ({probe.distance(seen, old):.4f} against {error:.4f} nats per token)"
            )
    return ""
