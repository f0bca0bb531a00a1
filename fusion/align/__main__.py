"""python -m fusion.align pivot=MODEL source=MODEL text=FILE out=DIR [align=NAME]: how well two tokenizers align.

Needs no weights: of a model of the hub only the tokenizer is fetched.  Without `align` every scheme under every
reading; with it one scheme, and `align.reading=`,
`align.aligner=`, `align.vocabulary_map=` as elsewhere.  Writes out/audit.json and prints a table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    debug: bool = False


def run(settings: Mapping[str, object]) -> None:
    """Audit what `settings` say.  Raises Refusal for a folder without a tokenizer and for an unreadable text."""
    config = typed(settings, AuditConfig)
    from rich.console import Console
    from rich.progress import Progress

    from fusion.align.audit import audit, every_config, read_texts

    console = Console(stderr=True)
    texts = read_texts(Path(config.text))
    pivot, source = (
        _tokenizer(f"{key}={value}", directory_of(given_model(value, {}), TOKENIZER))
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
    (out / "audit.json").write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    _print_table(rows, f"{config.source} to {config.pivot}, {config.text}")


def _tokenizer(said: str, path: Path) -> PreTrainedTokenizerFast:
    from transformers import AutoTokenizer

    if not (path / "tokenizer.json").exists():
        raise Refusal(f"{said} has no tokenizer.json: expected a folder of a fast tokenizer or of a checkpoint")
    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise Refusal(f"{said} cannot be loaded as a tokenizer ({error})") from error


def _print_table(rows: Sequence[AuditRow], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from fusion.runtime.next_step import say_next

    table = Table(title=title, title_justify="left")
    for name in ("scheme", "reading", "aligner", "vocabulary map", "text"):
        table.add_column(name)
    for name in ("positions", "transferred", "one-hot", "empty", "wrong position"):
        table.add_column(name, justify="right")
    for row in rows:
        counts = (row["transferred"], row["one_hot"], row["empty"], row["wrong_position"])
        shares = [f"{count / row['positions']:.1%}" for count in counts]
        named = (row["scheme"], row["reading"], row["aligner"], row["vocabulary_map"], row["kind"])
        table.add_row(*named, f"{row['positions']:,}", *shares, end_section=False)
    Console(width=140).print(table)
    say_next("python", "-m", "ablations", "-m", "experiment=pocket", "align=byte_span,em")


if __name__ == "__main__":
    command("audit", run)
