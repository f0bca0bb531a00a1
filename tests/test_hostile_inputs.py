"""Commands over inputs of strangers: one message and status 2, or the work is done; never a traceback.

A command runs in this process, as its module's `__main__`: what starts a process for each takes minutes.
"""

import importlib.util
import json
import runpy
import struct
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from fusion.runtime.processes import processor_settings

TENSOR = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.fixture
def ended(monkeypatch, capfd, tmp_path) -> Callable[..., tuple[int, str]]:
    """`ended(module, *arguments)`: the status and what was said on stderr; run in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # which the command replaces
    for name, value in {"HYDRA_FULL_ERROR": "1", **processor_settings()}.items():  # which it sets
        monkeypatch.setenv(name, value)

    def run(module: str, *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        # As in a process of its own; a package stays, since others of the project know it.
        package = importlib.util.find_spec(module).submodule_search_locations is not None
        monkeypatch.delitem(sys.modules, f"{module}.__main__" if package else module, raising=False)
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            with pytest.raises(SystemExit) as exited:
                runpy.run_module(module, run_name="__main__")
        said = capfd.readouterr().err
        assert "Traceback" not in said
        assert "not foreseen" not in said
        return int(exited.value.code or 0), said

    return run


def file(name: str, content: str | bytes) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


def model(name: str, *, config: str = '{"model_type": "llama"}', header: object = None, tokenizer: str = "{}") -> str:
    """A checkpoint of one number."""
    text = json.dumps({"a": TENSOR} if header is None else header).encode()
    file(f"{name}/model.safetensors", struct.pack("<Q", len(text)) + text + bytes(4))
    file(f"{name}/config.json", config)
    file(f"{name}/tokenizer.json", tokenizer)
    return name


RECIPE = "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 1}}]\n"
RECIPES = {
    "bytes": b"\x00\xff\xfe\x01",
    "a list": b"- merge_method\n",
    "names of itself": b"merge_method: linear\nmodels: &m [*m]\n",
    "an object of Python": b"merge_method: !!python/name:os.system\n",
    "half a letter": b'merge_method: "\\ud83d"\n',
    "a key that is a list": b"? [a, b]\n: linear\n",
    "a key that is a number": b"3: linear\nmerge_method: linear\n",
    "weights that are text": RECIPE.replace("weight: 1}", "weight: much}").encode(),
    "a weight that is no number": RECIPE.replace("weight: 1}", "weight: .nan}").encode(),
    "a day for a seed": RECIPE.encode() + b"seed: 2020-01-01\n",
    "a name with a null byte": RECIPE.replace("model: a", 'model: "a\\0"').encode(),
    "a name without end": RECIPE.replace("model: a", f"model: ./{'a' * 5_000}").encode(),
}


@pytest.mark.parametrize("text", RECIPES.values(), ids=RECIPES.keys())
def test_a_recipe(ended, text):
    model("a"), model("b")
    status, said = ended("fusion.merge", f"recipe={file('recipe.yaml', text)}", "out=merged")
    assert status == 2 and said.count("\n") <= 3
    assert not Path("merged").exists()


CHECKPOINTS = {
    "a config that is a list": {"config": "[]"},
    "a config of settings without end": {"config": '{"a":' * 2_000 + "1" + "}" * 2_000},
    "a tokenizer that is text": {"tokenizer": '"tokenizer"'},
    "merges of numbers": {"tokenizer": '{"model": {"merges": [3]}}'},
    "a shape of text": {"header": {"a": {**TENSOR, "shape": "1"}}},
    "a type that nobody knows": {"header": {"a": {**TENSOR, "dtype": "F7"}}},
    "bytes of another": {"header": {"a": TENSOR, "b": TENSOR}},
}


@pytest.mark.parametrize("given", CHECKPOINTS.values(), ids=CHECKPOINTS.keys())
def test_a_checkpoint_to_merge(ended, given):
    model("a"), model("b", **given)
    status, said = ended("fusion.merge", f"recipe={file('recipe.yaml', RECIPE)}", "out=merged")
    assert status == 2
    assert "b" in said
    assert not Path("merged").exists()


QUESTION = json.dumps({"question_id": 81, "category": "writing", "turns": ["Say a."]})
ANSWER = json.dumps({"question_id": 81, "choices": [{"turns": ["a"]}]})
JUDGMENT = json.dumps(
    {"question_id": 81, "turn": 1, "model": "m", "judge": ["g", "s"], "user_prompt": "x", "judgment": "Rating: [[7]]",
     "score": 7}
)  # fmt: skip
FILES = {
    "answers that are no text": ("answers", b'{"question_id": 81, "choices": [{"turns": [{"a": 1}]}]}\n'),
    "answers without choices": ("answers", b'{"question_id": 81, "choices": []}\n'),
    "answers to a question that is a list": ("answers", b'{"question_id": [81], "choices": [{"turns": ["a"]}]}\n'),
    "answers of digits": ("answers", b'{"question_id": ' + b"8" * 5_000 + b', "choices": [{"turns": ["a"]}]}\n'),
    "answers in a torn archive": ("answers.gz", b"\x1f\x8b\x08\x00torn"),
    "questions that are a number": ("questions", b"81\n"),
    "a question without turns": ("questions", b'{"question_id": 81, "category": "writing"}\n'),
    "a turn of half a letter": ("questions", b'{"question_id": 81, "category": "w", "turns": ["\\udc00"]}\n'),
    "a category that is an object": ("questions", b'{"question_id": 81, "category": {}, "turns": ["a"]}\n'),
    "judgments of another encoding": ("judgments", JUDGMENT.encode("utf-16")),
    "a turn that is text": ("judgments", JUDGMENT.replace('"turn": 1', '"turn": "first"').encode()),
    "a judge that is a number": ("judgments", JUDGMENT.replace('["g", "s"]', "7").encode()),
    "a score without end": ("judgments", JUDGMENT.replace('"score": 7', '"score": Infinity').encode()),
    "deep judgments": ("judgments", b'{"a":' * 30_000),
}


@pytest.mark.parametrize(("which", "content"), FILES.values(), ids=FILES.keys())
def test_a_file_to_evaluate(ended, which, content):
    given = {"questions": QUESTION, "judgments": JUDGMENT, "answers": ANSWER}
    paths = {name: file(f"{name}.jsonl", f"{text}\n") for name, text in given.items()}
    name, _, packed = which.partition(".")
    paths[name] = file(f"{which}.jsonl{'.gz' if packed else ''}", content)
    status, said = ended(
        "eval",
        "benchmark=mt_bench",
        f"benchmark.mt_bench.questions={paths['questions']}",
        "benchmark.mt_bench.references=null",
        "benchmark.mt_bench.judge_prompts=null",
        "judge=recorded",
        f"judge.file={paths['judgments']}",
        "judge.model=m",
        f"answers={paths['answers']}",
        "out=out",
        "paths.artifacts=artifacts",
        "paths.data=.",
    )
    assert status in (0, 2)
    assert status == 0 or said


CELLS = {
    "no JSON": ("cell.json", "{"),
    "deep": ("cell.json", '{"a":' * 20_000),
    "other types": ("cell.json", '{"name": 3, "experiment": [], "seed": "x", "axes": 5}'),
    "stages elsewhere": (
        "cell.json",
        '{"name": "c", "experiment": "e", "seed": 0, "axes": {}, "weights": {}, "checkpoints": {}, "stages":'
        ' [{"stage": "merge", "what": "sce", "key": "k", "path": "/nowhere"}]}',
    ),
    "a failure that is a list": ("failed.json", "[]"),
    "progress that is text": ("progress.json", '"running"'),
}
LOOKED_AT = {
    "report": ("ablations.report", "cells=sweep", "out=out"),
    "watch": ("ablations.watch", "cells=sweep"),
    "model_card": ("ablations.model_card", "cell=sweep/c", "merged=sce", "out=out"),
    "regression": ("ablations.regression", "scores=sweep/c/scores.csv", "baseline=kept.json", "update=true"),
}


@pytest.mark.parametrize("command", LOOKED_AT.values(), ids=LOOKED_AT.keys())
@pytest.mark.parametrize(("name", "content"), CELLS.values(), ids=CELLS.keys())
def test_a_folder_of_a_sweep(ended, command, name, content):
    file("sweep/cells.json", '[{"name": "c", "overrides": [], "folder": "c"}]')
    file(f"sweep/c/{name}", content)
    file("sweep/c/scores.csv", "model,group,benchmark,metric,slice,value,low,high,n,unscored\n")
    status, said = ended(*command)
    assert status in (0, 1, 2)
    assert status == 0 or said
