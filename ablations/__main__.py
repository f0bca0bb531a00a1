"""python -m ablations [-m] experiment=NAME [axis=a,b,c]: one cell, or with -m a sweep of cells.

A single cell's report lies in reports/<experiment>/; a sweep's cells in artifacts/sweeps/<experiment>/<time>/.
`resume=NAME_OR_DIR` runs what is missing of a sweep; `plan=true` says what all would take and runs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from ablations.sweep.attempt import end_servers
from ablations.sweep.job import run
from fusion.runtime.command import command


def arguments(given: Sequence[str]) -> list[str]:
    """The command line for Hydra; with `resume`, the one that the sweep was started with.

    With `plan=true` or a budget the plan is made first, and printed or compared with the budget, before Hydra starts
    anything.
    """
    from ablations.plan.plan import before_start

    whole = list(given)
    if any(argument.startswith("resume=") for argument in given):
        from ablations.sweep.launch import resumed

        whole = resumed(given)
    before_start(whole)
    return whole


if __name__ == "__main__":
    try:
        command("ablations", run, arguments=arguments)
    finally:
        end_servers()
