"""MT-Bench's published rules, read from the installed `fschat` package: categories, temperatures, patterns, loaders.

`import fastchat.llm_judge.common` takes about 11 s, because its third import brings PyTorch and every model family the
package knows, and none of the rules needs them.  Here the module's own source is compiled without its three heavy
imports (`openai`, `anthropic`, `fastchat.model`), which only its judge calls use; those need a client older than
openai 1 and are replaced by `eval.judges` anyway.  A slow test compares every rule with the module imported whole.
"""

from __future__ import annotations

import argparse
import ast
import functools
import importlib.util
import sys
import types
import warnings
from pathlib import Path
from typing import Any

from eval.errors import HarnessFailure

_HEAVY = ("openai", "anthropic", "fastchat")
NEEDED = (
    "NEED_REF_CATS",
    "temperature_config",
    "one_score_pattern",
    "one_score_pattern_backup",
    "load_questions",
    "load_judge_prompts",
    "load_model_answers",
)


@functools.cache
def fastchat_common() -> types.ModuleType:
    """`fastchat.llm_judge.common` without the imports of its judge calls.

    Raises HarnessFailure when the package is missing or no longer has the rules we use.
    """
    found = importlib.util.find_spec("fastchat")
    if found is None or not found.submodule_search_locations:
        raise HarnessFailure("MT-Bench needs the package fschat: install fusechat-lab[eval]")
    source = Path(next(iter(found.submodule_search_locations))) / "llm_judge" / "common.py"
    module = types.ModuleType(f"{__name__}.common")
    module.__file__ = str(source)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its patterns are not raw strings
        tree = ast.parse(source.read_text(encoding="utf-8"), filename=str(source))
        tree.body = [node for node in tree.body if not _imports_something_heavy(node)]
        exec(compile(tree, str(source), "exec"), module.__dict__)
    missing = [name for name in NEEDED if not hasattr(module, name)]
    if missing:
        raise HarnessFailure(f"{source} has no {', '.join(missing)}: install fschat==0.2.36")
    return module


def fastchat_means(judgments: Path) -> dict[str, dict[str, float]]:
    """The mean ratings that fastchat's own `show_result` prints for an unpacked `<judge>_single.jsonl`: by slice
    (`turn1`, `turn2`, `all`), then by model.
    """
    first, second, average = shown_by("display_result_single", judgments)
    return {
        "turn1": {model: float(row.score) for (model, _), row in first.iterrows()},
        "turn2": {model: float(row.score) for (model, _), row in second.iterrows()},
        "all": {model: float(row.score) for model, row in average.iterrows()},
    }


def shown_by(function: str, judgments: Path, *, baseline_model: str | None = None) -> list[Any]:
    """The tables that one of show_result's functions prints; the module needs pandas and nothing heavy."""
    spec = importlib.util.find_spec("fastchat.llm_judge.show_result")
    if spec is None or spec.loader is None:
        raise HarnessFailure("MT-Bench needs the package fschat: install fusechat-lab[eval]")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    printed: list[Any] = []
    module.__dict__["print"] = printed.append
    settings = argparse.Namespace(
        input_file=str(judgments), bench_name="mt_bench", model_list=None, baseline_model=baseline_model
    )
    getattr(module, function)(settings)
    return [shown for shown in printed if not isinstance(shown, str)]


def _imports_something_heavy(node: ast.stmt) -> bool:
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    if isinstance(node, ast.ImportFrom):
        names = [node.module or ""]
    return any(name.split(".")[0] in _HEAVY for name in names)
