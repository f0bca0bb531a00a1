"""The training child: `python -m fusion.train JOB.json`, started by fusion.train.launch for each run."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fusion.runtime.configure import Refusal, restored
from fusion.runtime.disk import disk_fault
from fusion.train.config import TrainConfig
from fusion.train.launch import FACTS, REFUSAL
from fusion.train.objectives import OBJECTIVES


def prepare() -> None:
    """Import all that a run needs."""
    # cuBLAS gives equal results run after run only with a fixed workspace, chosen before it starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # transformers loads these wherever they are installed, and training uses none: a fifth of every start.
    for unused in ("sklearn", "scipy", "datasets"):
        sys.modules.setdefault(unused, None)  # type: ignore[arg-type]
    importlib.import_module("fusion.train.run")


def main(arguments: Sequence[str]) -> int:
    """Do the job; facts or the refusal go into files beside it.  Exit status 2 means refused."""
    if len(arguments) != 1 or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if list(arguments) in (["-h"], ["--help"]) else 2
    text = json.loads(Path(arguments[0]).read_text())
    out = Path(text["out"])
    prepare()
    from fusion.train.run import TrainingJob, run

    job = TrainingJob(
        initial=Path(text["initial"]),
        conversations=Path(text["conversations"]),
        fused=Path(text["fused"]) if text["fused"] else None,
        config=restored(text["config"], (TrainConfig, *OBJECTIVES.values())),
        out=out,
    )
    try:
        facts = run(job)
    except Exception as error:
        why = str(error) if isinstance(error, Refusal) else disk_fault(error)
        if why is None:
            raise
        (out / REFUSAL).write_text(why)
        return 2
    if facts is not None:
        (out / FACTS).write_text(json.dumps(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
