"""Sequence alignment: by byte offsets beside tokenising, and the papers' DP beside the same in plain Python."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from bench.row import BenchRow, by_turns, once, spelled
from bench.texts import ROW_TOKENS, BenchText, Material, material
from fusion.align import SEQUENCE_ALIGNERS
from fusion.align.pair import VocabularyPair
from fusion.conversations.vocabulary import vocabulary

_ROWS = 32


def rows() -> Iterator[BenchRow]:
    """Both bars, on the same rows."""
    made = material(_ROWS)
    ours = [made.row(made.pivot, text) for text in made.texts]
    theirs = [made.row(made.source, text) for text in made.texts]
    pair = VocabularyPair(pivot=vocabulary(made.pivot), source=vocabulary(made.source))
    yield _byte_span(made, pair, ours, theirs)
    yield _token_dtw(made, pair, ours, theirs)


def _byte_span(made: Material, pair: VocabularyPair, ours: list[BenchText], theirs: list[BenchText]) -> BenchRow:
    aligner = SEQUENCE_ALIGNERS["byte_span"](pair)
    backends = [tokenizer.backend_tokenizer for tokenizer in (made.pivot, made.source)]
    aligning, *tokenising = by_turns(
        lambda: [aligner(a, b) for a, b in zip(ours, theirs, strict=True)],
        *(lambda b=backend: [b.encode(text, add_special_tokens=False) for text in made.texts] for backend in backends),
        repeats=7,
    )
    quicker = min(tokenising)
    return BenchRow(
        what=f"aligning {ROW_TOKENS}-token rows by byte offsets ({made.name})",
        measured=f"{spelled(aligning / len(ours))} a row, {aligning / quicker:.3f} of tokenising it",
        bar="at most 1 of tokenising the text",
        reached=aligning <= quicker,
    )


def _token_dtw(made: Material, pair: VocabularyPair, ours: list[BenchText], theirs: list[BenchText]) -> BenchRow:
    aligner = SEQUENCE_ALIGNERS["token_dtw"](pair)
    (compiled,) = by_turns(lambda: [aligner(a, b) for a, b in zip(ours, theirs, strict=True)], repeats=3)
    oracle: list[list[list[int]]] = []
    plain = once(lambda: oracle.append(plain_matches(pair, ours[0], theirs[0])))
    matches = aligner(ours[0], theirs[0])
    got = [matches.positions[begin:end].tolist() for begin, end in pairwise(matches.offset)]
    equal = got == oracle[0]
    times = plain / (compiled / len(ours))
    verdict = "equal" if equal else "NOT EQUAL"
    return BenchRow(
        what=f"the papers' DP on {ROW_TOKENS}-token rows, compiled, beside plain Python",
        measured=f"{spelled(compiled / len(ours))} a row, {times:,.0f} times faster, {verdict}",
        bar="at least 100 times, equal",
        reached=equal and times >= 100,
    )


def plain_matches(pair: VocabularyPair, pivot: BenchText, source: BenchText) -> list[list[int]]:
    """The paper's warping path written out: for each pivot position of one turn, the source positions matched with it.

    Cost of two tokens: the Levenshtein distance of their strings without spaces, or with them where nothing else is
    left of either.  The tokens are those in front of the labels, the first being the template's, with no string.
    Of equal predecessors the diagonal comes first, then the one with the source moved.
    """
    ours = ["", *(pair.pivot_strings[i] for i in pivot.label_ids[:-1])]
    theirs = ["", *(pair.source_strings[i] for i in source.label_ids[:-1])]
    n, m = len(theirs), len(ours)
    cost = [[_token_cost(theirs[i], ours[j], pair.space) for j in range(m)] for i in range(n)]
    total = [[0] * m for _ in range(n)]
    came: list[list[tuple[int, int]]] = [[(0, 0)] * m for _ in range(n)]
    for i in range(n):
        for j in range(m):
            before = [
                (total[i - di][j - dj], order, (di, dj))
                for order, (di, dj) in enumerate(((1, 1), (1, 0), (0, 1)))
                if i >= di and j >= dj
            ]
            least, _, came[i][j] = min(before, default=(0, 0, (0, 0)))
            total[i][j] = cost[i][j] + least
    matched: list[list[int]] = [[] for _ in range(m)]
    i, j = n - 1, m - 1
    while True:
        matched[j].insert(0, i)
        if i == j == 0:
            return matched
        di, dj = came[i][j]
        i, j = i - di, j - dj


def _token_cost(one: str, other: str, space: str) -> int:
    bare, other_bare = one.replace(space, ""), other.replace(space, "")
    return levenshtein(bare, other_bare) if bare and other_bare else levenshtein(one, other)


def levenshtein(one: str, other: str) -> int:
    """Edit distance by the textbook table."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(other, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]
