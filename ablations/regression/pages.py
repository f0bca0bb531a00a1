"""The table of a report within a page: a kept baseline and the pages that print it are renewed by one command.

<!-- table: eval/baselines/pocket.json -->
(leaderboard.md without its title)
<!-- end of table -->
"""

from __future__ import annotations

from pathlib import Path

from fusion.runtime.configure import Refusal

_END = "<!-- end of table -->"


def renew(page: Path, baseline: Path, report: Path) -> None:
    """Put the report's leaderboard.md between the marks that name this baseline.

    Raises Refusal for a page without the marks, and for a report without the file; neither is changed then.
    """
    table = report / "leaderboard.md"
    for file in (page, table):
        if not file.is_file():
            raise Refusal(f"there is no {file}: expected a page to renew, and a leaderboard.md beside the scores")
    before, kept, after = _parts(page, baseline)
    found = table.read_text(encoding="utf-8").split("\n", 1)[1].strip()
    if found != kept.strip():
        page.write_text(f"{before}\n\n{found}\n\n{after}", encoding="utf-8")


def table_in(page: Path, baseline: Path) -> str:
    """What stands between the marks.  Raises Refusal for a page without them."""
    return _parts(page, baseline)[1]


def _parts(page: Path, baseline: Path) -> tuple[str, str, str]:
    begin, text = f"<!-- table: {baseline.as_posix()} -->", page.read_text(encoding="utf-8")
    if text.count(begin) != 1 or _END not in text.split(begin)[1]:
        raise Refusal(f"{page} has no place for the table: expected one line {begin!r} and behind it {_END!r}")
    before, rest = text.split(begin)
    kept, after = rest.split(_END, 1)
    return before + begin, kept, _END + after
