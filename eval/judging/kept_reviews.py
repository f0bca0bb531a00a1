"""What one judge said at second looks, kept by what it was shown.

A second look is paid like the first, and what it rests on can change by one word: a panel's member replies otherwise, a
reply that was missing comes.  So each review is kept by itself, and is asked for again only where the judge would be
shown something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from eval.answer.candidate import digest
from eval.exchange import JudgeRequest
from eval.judging.collect import needs_asking
from eval.records import Journal, Unscored, Verdict, read_verdicts
from fusion.runtime.configure import plain


@dataclass(frozen=True)
class KeptReviews:
    """A folder with a file for each request: what was replied to it, one record after the other."""

    folder: Path

    def of(self, request: JudgeRequest) -> list[Verdict | Unscored]:
        """Every reply to a request of these very words; the last counts."""
        return read_verdicts(self._file(request))

    def keep(self, request: JudgeRequest, record: Verdict | Unscored) -> None:
        """Remember a reply; that there was none is forgotten."""
        if not needs_asking(record):
            self.folder.mkdir(parents=True, exist_ok=True)
            with Journal(self._file(request)) as journal:
                journal.append(record)

    def fill(self, journal: Path, requests: Sequence[JudgeRequest]) -> None:
        """Write into a journal what is known of the requests that are not in it."""
        there = {record.place for record in read_verdicts(journal)}
        with Journal(journal) as written:
            written.append(*(record for one in requests if one.place not in there for record in self.of(one)))

    def _file(self, request: JudgeRequest) -> Path:
        shown = plain(replace(request, model=""))  # no judge is told whom it judges
        return self.folder / f"{digest(shown)}.jsonl"
