"""The align stage: carry every conversation of a source's representation to the pivot's positions, shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from fusion.align.aligned import AlignedRow, read_shard, write_index, write_shard
from fusion.align.matches import EMPTY, ONE_HOT, TRANSFERRED, Decision, Labelled, same_prefix, text_key
from fusion.align.method import Method, PreparedMethod
from fusion.align.project import IdMap
from fusion.conversations.vocabulary import same_tokenizer, vocabulary
from fusion.distribution import TopK
from fusion.runtime.configure import Refusal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ROWS_PER_SHARD = 256


class Represented(Labelled, Protocol):
    """One conversation of a representation (fusion.represent.RowRepresentation)."""

    @property
    def conversation_id(self) -> str: ...
    @property
    def top(self) -> TopK: ...
    @property
    def nll(self) -> float: ...
    @property
    def bytes(self) -> int: ...


def carry(
    *,
    pivot: Sequence[Represented],
    source: Sequence[Represented],
    pivot_tokenizer: PreTrainedTokenizerFast,
    source_tokenizer: PreTrainedTokenizerFast,
    pivot_ids: int,
    pivot_end_of_turn: int | None,
    source_end_of_turn: int | None,
    method: Method,
    out: Path,
    rows_per_shard: int = ROWS_PER_SHARD,
    advance: Callable[[int, int], None] | None = None,
) -> dict[str, int | float]:
    """Write the aligned rows of `source` into `out` in the pivot's order; returns counts for the manifest.

    Rows are paired by conversation.  Where the two tokenizers are the same and so are a row's label ids, the row is
    copied as it is.  `pivot_ids` is how many ids the pivot's model has: no other is taught, neither of a source with a
    wider head nor of a tokenizer with more.  Shards an earlier attempt finished are kept.

    Raises Refusal when the conversations are not the same or their assistant texts differ.
    """
    order = _paired(pivot, source)

    def rows() -> Iterator[tuple[Represented, Represented]]:
        for index, other in enumerate(order):
            yield pivot[index], source[other]

    same = same_tokenizer(pivot_tokenizer, source_tokenizer)
    map_file = out / "vocabulary_map.safetensors"
    prepared = PreparedMethod(
        method,
        vocabulary(pivot_tokenizer, end_of_turn=pivot_end_of_turn),
        vocabulary(source_tokenizer, end_of_turn=source_end_of_turn),
        rows,
        id_map=_read_map(map_file),
        pivot_ids=pivot_ids,
    )
    names = ("positions", "transferred", "one_hot", "empty", "wrong_position", "behind_source", "copied_rows")
    counts = dict.fromkeys(names, 0)
    kept_mass, given_mass, shards = 0.0, 0.0, []
    for first in range(0, len(order), rows_per_shard):
        path = out / f"aligned-{first // rows_per_shard:05d}.safetensors"
        numbers = range(first, min(first + rows_per_shard, len(order)))
        pairs = [(pivot[number], source[order[number]]) for number in numbers]
        if path.exists():
            done = read_shard(path)
        else:
            done = [_carry_row(ours, theirs, prepared, same) for ours, theirs in pairs]
            write_shard(path, done)
        shards.append((path.name, len(done)))
        for (ours, theirs), row in zip(pairs, done, strict=True):
            _count(counts, row, ours, theirs)
            moved = row.kind == TRANSFERRED
            kept_mass += _mass(row.top.log_probs[moved])
            given_mass += _mass(theirs.top.log_probs[row.source_position[moved]])
            counts["copied_rows"] += same and np.array_equal(ours.label_ids, theirs.label_ids)
        if advance is not None:
            advance(numbers.stop, len(order))
    if prepared.map_made and not map_file.exists():
        _write_map(map_file, prepared.id_map)
    write_index(out, shards)
    masses = {"kept_mass": kept_mass, "given_mass": given_mass}  # a position's, in pivot tokens and in the source's own
    each = {name: round(mass / max(counts["transferred"], 1), 6) for name, mass in masses.items()}
    return {**counts, "rows": len(order), **each}


def _carry_row(pivot: Represented, source: Represented, prepared: PreparedMethod, same: bool) -> AlignedRow:
    _check_text(pivot, source)
    if same and np.array_equal(pivot.label_ids, source.label_ids):
        top, decision = prepared.copy(source.top)
    else:
        top, decision = prepared.transfer(pivot, source, source.top)
    return AlignedRow(
        conversation_id=pivot.conversation_id,
        top=top,
        kind=decision.kind,
        source_position=decision.source_position,
        nll=float(source.nll),
        tokens=len(source.label_ids),
        bytes=int(source.bytes),
    )


def _paired(pivot: Sequence[Represented], source: Sequence[Represented]) -> list[int]:
    """For every pivot row the index of the source row of the same conversation."""
    place = {name: index for index, name in enumerate(_names(source))}
    wanted = _names(pivot)
    missing = [name for name in wanted if name not in place]
    extra = sorted(set(place) - set(wanted))
    if missing or extra:
        raise Refusal(
            f"pivot and source are of different conversations: {len(missing)} are missing from the source"
            f" ({', '.join(missing[:3]) or 'none'}), {len(extra)} only there ({', '.join(extra[:3]) or 'none'});"
            " represent both models on the same file"
        )
    return [place[name] for name in wanted]


def _names(rows: Sequence[Represented]) -> list[str]:
    """The conversations' ids, without reading their distributions where the rows can tell them."""
    listed = getattr(rows, "conversation_ids", None)
    return listed() if listed is not None else [row.conversation_id for row in rows]


def _check_text(pivot: Represented, source: Represented) -> None:
    """Each turn that both rows hold to its end must end at the same byte."""
    ours, theirs = (dict(_turn_ends(row)) for row in (pivot, source))
    for turn, length in ours.items():
        if theirs.get(turn, length) != length:
            raise Refusal(
                f"conversation '{pivot.conversation_id}': assistant turn {turn} has {length} bytes for the pivot and"
                f" {theirs[turn]} for the source; represent both models on the same file"
            )


def _turn_ends(row: Labelled) -> Iterator[tuple[int, int]]:
    """(turn, bytes) of the turns whose end-of-turn label is in the row: the one label of no text, at the turn's end."""
    turn = np.asarray(row.turn)
    last = np.append(turn[1:] != turn[:-1], True) if len(turn) else np.zeros(0, np.bool_)
    for index in np.flatnonzero(last & (np.asarray(row.start) == np.asarray(row.end))):
        yield int(turn[index]), int(row.end[index])


def _count(counts: dict[str, int], row: AlignedRow, pivot: Labelled, source: Labelled) -> None:
    decision = Decision(kind=row.kind, source_position=row.source_position)
    moved = row.kind == TRANSFERRED
    counts["positions"] += len(row.kind)
    counts["transferred"] += int(moved.sum())
    counts["one_hot"] += int((row.kind == ONE_HOT).sum())
    counts["empty"] += int((row.kind == EMPTY).sum())
    counts["wrong_position"] += int((moved & ~same_prefix(decision, pivot, source)).sum())
    counts["behind_source"] += int(_behind(pivot, source).sum())


def _behind(pivot: Labelled, source: Labelled) -> NDArray[np.bool_]:
    """Which of the pivot's positions lie in text behind the last token of the source's row, which was cut earlier."""
    if not len(source.label_ids):
        return np.ones(len(pivot.label_ids), np.bool_)
    read = max(int(text_key(source)[-1]), (int(source.turn[-1]) << 32) + int(source.end[-1]) - 1)
    return np.asarray(text_key(pivot) > read)


def _mass(log_probs: NDArray[np.float32]) -> float:
    return float(np.exp(log_probs).sum(dtype=np.float64))


def _write_map(path: Path, id_map: IdMap) -> None:
    from safetensors.numpy import save_file

    partial = path.with_name("." + path.name)
    save_file({"ids": id_map.table()}, partial)
    partial.rename(path)


def _read_map(path: Path) -> IdMap | None:
    """The vocabulary map an earlier attempt at this stage made; it is part of the stage's output."""
    from safetensors.numpy import load_file

    if not path.exists():
        return None
    table: NDArray[np.int32] = load_file(path)["ids"]
    return IdMap(ids=table[0], ids_space_added=table[1], ids_space_removed=table[2])
