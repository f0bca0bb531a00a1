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
_NOT_COPIED = frozenset({"model.safetensors.index.json", "manifest.json", "trainer_state.json", "index.json"})


def read_config(directory: Path) -> Mapping[str, Any]:
    """config.json of a checkpoint, empty where there is none; raises Refusal when it is not JSON."""
    return noted_in(directory / "config.json")


def noted_in(path: Path) -> Mapping[str, Any]:
    """The object in one of a checkpoint's files of JSON, empty where there is no such file; raises Refusal when it
    holds anything else."""
    return read_object(path, expected="a JSON object, as transformers writes it") if path.exists() else {}


def is_tied(config: Mapping[str, object]) -> bool:
    """Whether the config says that the output head is the input embeddings."""
    return bool(config.get("tie_word_embeddings", False))


def copy_files(pivot: Path, out: Path, *, dtype: str, untied: bool = False) -> list[str]:
    """Copy config, generation config, tokenizer, chat templates and the model's own code; returns their names.

    `dtype`, torch's name, is what most of the weights were written in, and `untied` says that the output head is no
    longer the input embeddings: the config says so too.
    """
    found = {path for pattern in _COPIED for path in pivot.glob(pattern) if path.is_file()}
    names = sorted({str(path.relative_to(pivot)) for path in found} - _NOT_COPIED | set(_own_code(pivot)))
    for name in names:
        (out / name).parent.mkdir(exist_ok=True)
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
    waiting = []
    for file in ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json"):
        named = noted_in(pivot / file).get("auto_map") or {}
        if not isinstance(named, dict):
            raise Refusal(f"{pivot / file} has an auto_map that is {named!r}: expected classes by name")
        for entry in named.values():
            classes = entry if isinstance(entry, list) else [entry]
            # OWNER/REPOSITORY--module.Class is fetched from the hub, wherever the model lies.
            waiting += [name.rpartition(".")[0] for name in classes if isinstance(name, str) and "--" not in name]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop().replace(".", "/") + ".py"
        if name in seen or not (pivot / name).is_file():
            continue
        seen.add(name)
        yield name
        try:
            tree = ast.parse(read_text(pivot / name, expected="the model's own code"))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise Refusal(f"{pivot / name}, the model's own code, is not Python: {error}") from error
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                waiting += [node.module] if node.module else [alias.name for alias in node.names]
