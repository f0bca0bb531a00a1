"""Whether this installation gives the numbers that others published: `python -m eval selfcheck=true`.

Each benchmark has a file with one function, `rows(data: Path) -> list[CheckRow]`: every published figure found below
the data folder beside ours, none where nothing was published there.
"""

from eval.selfcheck.row import CheckRow

__all__ = ["CheckRow"]
