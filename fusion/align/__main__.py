"""python -m fusion.align pivot=MODEL source=MODEL text=FILE out=DIR [align=NAME]: how well two tokenizers align.

Needs no weights: of a model of the hub only the tokenizer is fetched.  Without `align` every scheme under every
reading; with it one scheme, and `align.reading=`,
`align.aligner=`, `align.vocabulary_map=` as elsewhere.  Writes out/audit.json and prints a table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fusion.align import AlignConfig
from fusion.runtime.command import command
from fusion.runtime.configure import Refusal, typed
from fusion.runtime.given_model import TOKENIZER, directory_of, given_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from fusion.align.audit import AuditRow


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """Two tokenizers, a text, and where audit.json goes; `align` null means every scheme.

    A tokenizer is a folder with its files, a checkpoint's or another, a model of the hub, or an entry of conf/model.
    """

    pivot: str
    source: str
    text: str
    out: str
    align: AlignConfig | None = None
    paths: Mapping[str, str | None] = field(default_factory=lambda: {"models": None})
    debug: bool = False


def run(settings: Mapping[str, object]) -> None:
    """Audit what `settings` say.  Raises Refusal for a folder without a tokenizer and for an unreadable text."""
    config = typed(settings, AuditConfig)
    from rich.console import Console
    from rich.progress import Progress

    from fusion.align.audit import audit, every_config, little_kept, read_texts

    console = Console(stderr=True)
    texts = read_texts(Path(config.text))
    pivot, source = (
        _tokenizer(f"{key}={value}", directory_of(given_model(value, {}, folder=config.paths.get("models")), TOKENIZER))
        for key, value in (("pivot", config.pivot), ("source", config.source))
    )
    configs = every_config() if config.align is None else [config.align]
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("aligning", total=len(configs))
        rows = audit(
            pivot_tokenizer=pivot,
            source_tokenizer=source,
            texts=texts,
            configs=configs,
            advance=lambda done, total: progress.update(task, completed=done, total=total),
        )
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    said = little_kept(rows)
    (out / "audit.json").write_text(json.dumps({"rows": rows, "warnings": said}, indent=1) + "\n")
    _print_tables(rows, said, f"{config.source} to {config.pivot}, {config.text}")


def _tokenizer(said: str, path: Path) -> PreTrainedTokenizerFast:
    from transformers import AutoTokenizer

    if not (path / "tokenizer.json").exists():
        raise Refusal(f"{said} has no tokenizer.json: expected a folder of a fast tokenizer or of a checkpoint")
    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise Refusal(f"{said} cannot be loaded as a tokenizer ({error})") from error


def _print_tables(rows: Sequence[AuditRow], warnings: Sequence[str], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from fusion.runtime.next_step import say_next

    def shares(counts: Sequence[int], whole: int) -> list[str]:
        return [f"{count / whole:.1%}" if whole else "" for count in counts]

    table = Table(title=title, title_justify="left", pad_edge=False, show_edge=False)
    for name in ("scheme", "reading", "aligner", "vocabulary map", "text"):
        table.add_column(name)
    for name in ("positions", "transferred", "one-hot", "empty", "wrong position", "kept", "same text"):
        table.add_column(name, justify="right")
    maps = Table(title="Of the source's vocabulary", title_justify="left", pad_edge=False, show_edge=False)
    for name in ("scheme", "reading", "aligner", "vocabulary map"):
        maps.add_column(name)
    for name in ("tokens", "kept", "same text"):
        maps.add_column(name, justify="right")
    for row in rows:
        config = (row["scheme"], row["reading"], row["aligner"], row["vocabulary_map"])
        counts = (row["transferred"], row["one_hot"], row["empty"], row["wrong_position"])
        table.add_row(
            *(*config, row["kind"], f"{row['positions']:,}"),
            *shares(counts, row["positions"]),
            *shares((row["kept"], row["kept_text"]), row["transferred"]),
        )
        if row["kind"] == "all":
            mapped = (row["vocabulary_kept"], row["vocabulary_kept_text"])
            maps.add_row(*config, f"{row['vocabulary']:,}", *shares(mapped, row["vocabulary"]))
    console = Console(width=150)
    console.print(table)
    console.print("kept, same text: shares of the transferred positions where the source's own next token becomes a")
    console.print("pivot token, and one that stands for the same text\n")
    console.print(maps)
    for text in warnings:
        console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)
    say_next("python", "-m", "ablations", "-m", "experiment=pocket", "align=byte_span,em")


if __name__ == "__main__":
    command("audit", run)
