"""The script `fusechat-lab`: every `python -m` command by its module's name, from any folder.

    fusechat-lab ablations experiment=pocket      python -m ablations experiment=pocket
    fusechat-lab merge recipe=FILE out=DIR        python -m fusion.merge recipe=FILE out=DIR

The last part of a name is enough.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path

from fusion.runtime.configure import Refusal, nearest

COMMANDS: Mapping[str, str] = {
    "ablations": "an experiment from dialogues to leaderboard, or with -m a sweep of them",
    "ablations.new": "write an experiment of your own models, data and judge into ./conf/experiment",
    "ablations.report": "one report of many finished cells",
    "ablations.watch": "how far the cells of a sweep are",
    "ablations.regression": "what moved against a kept table",
    "ablations.rates": "how fast this machine was, for plans",
    "ablations.model_card": "a merged model as a folder ready for the hub",
    "eval": "serve a checkpoint, or take answers, and evaluate by benchmarks and a judge",
    "eval.agreement": "how far judges, or a judge and people, agree",
    "eval.benchmark_data": "fetch the benchmarks' official files",
    "fusion": "the stages up to the merged checkpoints",
    "fusion.align": "how well two tokenizers align on a text",
    "fusion.merge": "merge checkpoints by a recipe",
}


def usage() -> str:
    """Every command with what it does."""
    rows = [f"  {name:<22}{what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            "usage: fusechat-lab COMMAND [SETTINGS]",
            "",
            *rows,
            "",
            "The last part of a name is enough: fusechat-lab new.  fusechat-lab COMMAND --help says what one takes.",
        ]
    )


def module_of(name: str) -> str:
    """The module of a command.  Raises Refusal for a name that is none."""
    short = {module.rsplit(".", 1)[-1]: module for module in COMMANDS}
    known = {**short, **{module: module for module in COMMANDS}}
    if name not in known:
        raise Refusal(f"there is no command '{name}': {nearest(name, known)}")
    return known[name]


def main() -> None:
    """Run the command that the first argument names, as `python -m` would."""
    given = sys.argv[1:]
    if not given:
        print(usage(), file=sys.stderr)
        sys.exit(2)
    if given[0] in ("-h", "--help"):
        print(usage())
        return
    try:
        module = module_of(given[0])
    except Refusal as refusal:
        print(f"refused: {refusal}", file=sys.stderr)
        sys.exit(2)
    # Python's children would take a file of the folder they start in, such as an eval.py, for ours.
    os.environ["PYTHONSAFEPATH"] = "1"
    # What numba compiles would else be kept beside the code.
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    os.environ.setdefault("NUMBA_CACHE_DIR", str(cache / "fusechat-lab" / "numba"))
    sys.argv = [f"fusechat-lab {module}", *given[1:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
