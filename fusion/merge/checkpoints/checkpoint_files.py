"""What belongs to a checkpoint beside its weights: its config, and what goes along with a merged model."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fusion.runtime.configure import Refusal
from fusion.runtime.reading import read_object, read_text

_COPIED = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "additional_chat_templates/*.jinja")
# Of these kinds, what says something of other files than the merged model's.
_NOT_COPIED = ("*.index.json", "index.json", "manifest.json", "trainer_state.json", "params.json", "adapter_*.json")


def read_config(directory: Path) -> Mapping[str, Any]:
    """config.json of a checkpoint, empty where there is none; raises Refusal when it is not JSON."""
    return noted_in(directory / "config.json")


def noted_in(path: Path) -> Mapping[str, Any]:
    """The object in one of a checkpoint's files of JSON, empty where there is no such file; raises Refusal when it
    holds anything else."""
    return read_object(path, expected="a JSON object, as transformers writes it") if path.exists() else {}


def is_tied(config: Mapping[str, object]) -> bool:
    """Whether the config says that the output head is the input embeddings; in doubt that of its language model."""
    inner = config.get("text_config")
    own = inner.get("tie_word_embeddings", False) if isinstance(inner, Mapping) else False
    return bool(config.get("tie_word_embeddings", own))


def vocabulary_size(directory: Path) -> int | None:
    """How many rows the config says that the embeddings have; None where it does not."""
    config = read_config(directory)
    inner = config.get("text_config")
    found = config.get("vocab_size", inner.get("vocab_size") if isinstance(inner, Mapping) else None)
    return found if isinstance(found, int) else None


def copy_files(pivot: Path, out: Path, *, dtype: str, untied: bool = False) -> list[str]:
    """Copy config, generation config, tokenizer, chat templates and the model's own code; returns their names.

    `dtype`, torch's name, is what most of the weights were written in, and `untied` says that the output head is no
    longer the input embeddings: the config says so too.
    """
    found = {path for pattern in _COPIED for path in pivot.glob(pattern) if path.is_file()}
    plain = {str(path.relative_to(pivot)) for path in found if not any(map(path.match, _NOT_COPIED))}
    names = sorted(plain | set(_own_code(pivot)))
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pivot / name, out / name)
        (out / name).chmod(0o644)
    if "config.json" in names:
        before = read_config(pivot)
        config = dict(before)
        config["dtype" if "dtype" in config else "torch_dtype"] = dtype
        if untied:
            config["tie_word_embeddings"] = False
            inner = config.get("text_config")
            if isinstance(inner, Mapping) and "tie_word_embeddings" in inner:
                config["text_config"] = {**inner, "tie_word_embeddings": False}
        if config != before:
            (out / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    return names


def _own_code(pivot: Path) -> Iterator[str]:
    """The Python files that a checkpoint's `auto_map`s name, and those beside them that they import."""
    waiting = [pivot / f"{name}.py" for name in _named_code(pivot)]
    seen: set[Path] = set()
    while waiting:
        file = waiting.pop()
        if file in seen or not file.is_file():
            continue
        seen.add(file)
        yield str(file.relative_to(pivot))
        try:
            tree = ast.parse(read_text(file, expected="the model's own code"))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise Refusal(f"{file}, the model's own code, is not Python: {error}") from error
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                modules = [node.module] if node.module else [alias.name for alias in node.names]
                waiting += [file.parent / f"{module.replace('.', '/')}.py" for module in modules]


def _named_code(pivot: Path) -> Iterator[str]:
    """The modules beside the model that its `auto_map`s name; OWNER/REPOSITORY--module.Class is on the hub, wherever
    the model lies."""
    for file in sorted({pivot / "config.json", *pivot.glob("*_config.json")}):
        found = noted_in(file).get("auto_map") or {}
        entries = found.values() if isinstance(found, Mapping) else [found]  # older tokenizers have a list alone
        for entry in entries:
            for name in entry if isinstance(entry, list) else [entry]:
                if name is None or (isinstance(name, str) and "--" in name):
                    continue
                if not isinstance(name, str) or not all(
                    part.replace("-", "_").isidentifier() for part in name.split(".")
                ):
                    raise Refusal(f"auto_map of {file} names {name!r}: expected module.Class of a file beside it")
                yield name.rpartition(".")[0].replace(".", "/")
