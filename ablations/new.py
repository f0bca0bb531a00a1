"""fusechat-lab new --pivot MODEL --sources MODEL ... --data FILE ... --judge JUDGE: an experiment of one page.

Writes ./conf/experiment/NAME.yaml, where every command started from this folder finds it, and starts nothing.  A MODEL
is an entry of conf/model, a directory, or OWNER/NAME on the hub; a JUDGE an entry of conf/judge, or the address of an
OpenAI-compatible endpoint.  Training is set for the machine this runs on; all is on the page, to be changed there.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fusion.runtime.command import compose, group_names
from fusion.runtime.configure import Refusal, nearest
from fusion.runtime.next_step import say_next
from fusion.runtime.places import settings_file
from fusion.runtime.versions import accelerator


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a page says of the machine: in which numbers models are run and trained, and the rates of a plan."""

    loaded: str
    precision: str
    rates: str


MACHINES: Mapping[Literal["cpu", "cuda"], Machine] = {
    "cpu": Machine(loaded="float32", precision="fp32", rates="pocket_cpu"),
    "cuda": Machine(loaded="bfloat16", precision="bf16_mixed", rates="a100_40gb"),
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line says.  `judge_model` and `judge_key`, an environment variable, go with an address."""

    name: str
    pivot: str
    sources: tuple[str, ...]
    data: tuple[str, ...]
    judge: str
    judge_model: str | None
    judge_key: str | None
    questions: str | None


def page(asked: Asked, machine: Machine) -> str:
    """The experiment as YAML."""
    address = asked.judge if _is_address(asked.judge) else None
    judge = {"base_url": address, "key_variable": asked.judge_key} if address else {}
    if asked.judge_model is not None:
        judge["model"] = asked.judge_model
    lines = [
        "# @package _global_",
        "# Written by fusechat-lab new, and yours to change.  What it takes, before anything starts:",
        f"#   fusechat-lab ablations experiment={asked.name} plan=true",
        "defaults:",
        "  - override /data: files",
        "  - override /align: byte_span      # how tokens of two tokenizers are brought together",
        "  - override /fuse: min_ce          # whose distribution teaches at each position",
        "  - override /train: small_gpu      # what is not set below",
        "  - override /merge: [linear, ties, sce]",
        "  - override /serve: auto           # vLLM where it can run, else transformers",
        "  - override /benchmark: [mt_bench]",
        f"  - override /judge: {'openai' if address else asked.judge}",
        f"  - override /rates: {machine.rates}    # of the machine, for plans",
        f"name: {asked.name}",
        f"pivot: {json.dumps(asked.pivot)}",
        f"sources: {json.dumps(asked.sources)}",
        f"data: {{files: {json.dumps(asked.data)}}}",
        f"represent: {{max_length: 1024, dtype: {machine.loaded}}}",
        "train:",
        "  device: auto                      # a GPU where there is one",
        f"  precision: {machine.precision}",
        "  epochs: 1.0",
        "  learning_rate: 1.0e-5",
        "  batch_size: 64                    # dialogues in a step, in as many parts as gradient_accumulation says",
        "  gradient_accumulation: 8",
        "  max_length: 1024",
    ]
    if judge:
        lines += ["judge:", *(f"  {key}: {json.dumps(value)}" for key, value in judge.items())]
    if asked.questions is not None:
        lines += [
            "benchmark:",
            "  mt_bench:",
            f"    questions: {json.dumps(str(Path(asked.questions).absolute()))}",
            "    references: null                # known answers are the questions' own `reference`",
        ]
    return "\n".join(lines) + "\n"


def write(asked: Asked, folder: Path) -> Path:
    """Write the page into `folder`, and check that it composes there.

    Raises Refusal, and leaves nothing, for a name that is taken, models or files that are not there, and a judge that
    wants more than was said.
    """
    if not re.fullmatch(r"\w[\w.-]*", asked.name):
        raise Refusal(f"--name {asked.name}: expected letters, digits, '_', '-' and '.', since it names a file")
    taken = settings_file(f"experiment/{asked.name}.yaml")
    if taken is not None:
        raise Refusal(f"there is an experiment '{asked.name}' in {taken}: give another --name, or remove it")
    if _is_address(asked.judge) and asked.judge_model is None:
        raise Refusal(f"--judge {asked.judge} is an address: say with --judge-model which model to ask there")
    if not _is_address(asked.judge) and asked.judge not in group_names("judge"):
        raise Refusal(
            f"--judge {asked.judge} is not in conf/judge: {nearest(asked.judge, group_names('judge'))}; an endpoint is"
            " given by its address, http://HOST:PORT/v1"
        )
    for file in (*asked.data, *([asked.questions] if asked.questions else [])):
        _check_there(file)
    path = folder / "experiment" / f"{asked.name}.yaml"
    with _made(path.parent):
        path.write_text(page(asked, MACHINES[accelerator()]))
        try:
            check(asked.name)
        except Refusal:
            path.unlink()
            raise
    return path


def check(name: str) -> None:
    """Raises Refusal where the experiment does not compose, or names a model on this disk that cannot be used."""
    from eval.config import eval_config
    from fusion.pipeline import fusion_config
    from fusion.runtime.given_model import checkpoint_directory, on_disk

    settings = compose("ablations", [f"experiment={name}"])
    for model in fusion_config(settings).models.values():
        if model.path is not None and on_disk(model.path):
            checkpoint_directory(model)
    eval_config(settings)


def read(arguments: Sequence[str]) -> Asked:
    """The command line; argparse ends the process with its usage for one that is not understood."""
    summary, _, more = (__doc__ or "").partition("\n\n")
    reader = argparse.ArgumentParser(prog="fusechat-lab new", usage=summary.split(":")[0], description=more)
    reader.formatter_class = argparse.RawDescriptionHelpFormatter
    reader.add_argument(
        "--pivot", required=True, metavar="MODEL", help="the model that learns, and the shape of all results"
    )
    reader.add_argument("--sources", required=True, nargs="+", metavar="MODEL", help="the models it learns from")
    reader.add_argument("--data", required=True, nargs="+", metavar="FILE", help="dialogues to learn on")
    reader.add_argument(
        "--judge", required=True, metavar="JUDGE", help="an entry of conf/judge, or http://HOST:PORT/v1"
    )
    reader.add_argument("--judge-model", metavar="NAME", help="the model to ask there")
    reader.add_argument(
        "--judge-key", metavar="VARIABLE", help="the environment variable that holds the endpoint's key"
    )
    reader.add_argument("--questions", metavar="FILE", help="your own in MT-Bench's schema; without, MT-Bench's 80")
    reader.add_argument("--name", default="mine", help="of the experiment and its page (default: mine)")
    given = reader.parse_args(arguments)
    return Asked(**{**vars(given), "sources": _each(given.sources), "data": _each(given.data)})


def main() -> int:
    """Write the page and say what comes next."""
    asked = read(sys.argv[1:])
    try:
        path = write(asked, Path("conf"))
    except Refusal as refusal:
        print(f"refused: {refusal}", file=sys.stderr)
        return 2
    print(f"written: {path}")
    print(f"what it takes: fusechat-lab ablations experiment={asked.name} plan=true")
    say_next("fusechat-lab", "ablations", f"experiment={asked.name}")
    return 0


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """The folder is there, and those of its parents that it took; they go again when nothing was left in them."""
    absent = [part for part in (folder, *folder.parents) if not part.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for part in absent:
            with contextlib.suppress(OSError):  # something is in it
                part.rmdir()


def _check_there(file: str) -> None:
    """Raises Refusal for a file that is not there; a pattern has to find some, OWNER/NAME may lie on the hub."""
    path = Path(file).expanduser()
    of_the_hub = re.fullmatch(r"[\w-]+/[\w.-]+", file) and not path.parent.exists()
    if not path.exists() and not glob.glob(str(path), recursive=True) and not of_the_hub:
        raise Refusal(
            f"there is no file {file}: expected a file of dialogues or questions, or a pattern that finds some"
        )


def _is_address(judge: str) -> bool:
    return judge.startswith(("http://", "https://"))


def _each(values: Sequence[str]) -> tuple[str, ...]:
    """What was given apart, or as one list with commas."""
    return tuple(
        part for value in values for part in ([value] if Path(value).exists() else value.split(",")) if part.strip()
    )


if __name__ == "__main__":
    sys.exit(main())
