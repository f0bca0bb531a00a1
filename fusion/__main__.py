"""python -m fusion experiment=NAME [overrides]: every stage up to the merged checkpoints, computed or reused."""

from __future__ import annotations

import sys
from typing import Any

from fusion.runtime.command import command


def run(settings: dict[str, Any]) -> None:
    """Run the stages and print where each model's checkpoint lies."""
    from fusion.pipeline import fusion_config
    from fusion.pipeline import run as fuse
    from fusion.preflight import machine_problems, problems
    from fusion.runtime.artifacts import Store
    from fusion.runtime.configure import typed
    from fusion.runtime.next_step import say_next
    from fusion.runtime.preflight import Preflight, refuse
    from fusion.runtime.progress import RunProgress

    config = fusion_config(settings)
    look = typed(settings["preflight"], Preflight, at="preflight")
    found = problems(config, Store(root=config.artifacts, reuse=config.reuse), ask=look.online(planning=False))
    refuse([*found, *machine_problems(config, settings.get("expected"))])
    with RunProgress() as progress:
        models = fuse(config, progress)
        progress.note(f"stages: {progress.computed} computed, {progress.reused} reused")
    for checkpoint in models.checkpoints:
        print(f"{checkpoint.group:<10} {checkpoint.model:<20} {checkpoint.path}")
    say_next("python", "-m", "ablations", *sys.argv[1:])


if __name__ == "__main__":
    command("fusion", run, unused=("serve", "benchmark", "judge", "ensembles", "rates"))
