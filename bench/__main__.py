"""python -m bench [GROUP ...]: every row, or those of the groups named, as one table of measured beside bar.

It reports and does not judge: a missed bar is marked, and the exit status says only whether the measuring worked.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from fusion.runtime.configure import Refusal, nearest
from fusion.runtime.processes import thread_settings

GROUPS = {
    "alignment": "bench.alignment",
    "disk": "bench.disk",
    "batches": "bench.batches",
    "loss": "bench.loss",
    "merging": "bench.merging",
    "serving": "bench.serving",
    "scoring": "bench.scoring",
    "report": "bench.report_page",
    "coverage": "bench.coverage",
    "smallest": "bench.smallest",
}
USAGE = f"usage: python -m bench [GROUP ...]\n\ngroups: {', '.join(GROUPS)}; without one, all of them"


def main(arguments: Sequence[str]) -> int:
    """Measure and print the groups named in `arguments`."""
    from rich.console import Console
    from rich.table import Table

    for name in arguments:
        if name not in GROUPS:
            raise Refusal(f"there is no group '{name}': {nearest(name, GROUPS)}")
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table("what", "measured", "bar", "")
    for name in arguments or GROUPS:
        print(f"measuring {name} ...", file=sys.stderr)
        for row in importlib.import_module(GROUPS[name]).rows():
            table.add_row(row.what, row.measured, row.bar, {True: "reached", False: "MISSED", None: ""}[row.reached])
    console.print(table)
    return 0


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(USAGE)
        sys.exit(0)
    os.environ.update(thread_settings(1))
    try:
        sys.exit(main(sys.argv[1:]))
    except Refusal as refusal:
        print(f"refused: {refusal}", file=sys.stderr)
        sys.exit(2)
