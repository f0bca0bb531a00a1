"""lm-eval's samples as item scores, and one real run on a local task."""

import json
import os

import pytest

from eval.benchmarks import BENCHMARKS, LMEvalHarness
from eval.benchmarks.lm_eval_scores import LMEvalTask, check_means, item_scores, task_scores
from eval.errors import HarnessFailure
from eval.scores.intervals import Uncertainty
from eval.serve import Endpoint
from fusion.runtime.command import compose
from fusion.runtime.configure import Refusal, choose, typed

SAMPLES = [
    {"doc_id": 0, "filter": "none", "metrics": ["acc", "acc_norm"], "acc": 1.0, "acc_norm": 0.0},
    {"doc_id": 1, "filter": "none", "metrics": ["acc", "acc_norm"], "acc": 0.0, "acc_norm": 0.0},
    {"doc_id": 2, "filter": "strict", "metrics": ["exact_match"], "exact_match": 1.0},
    {"doc_id": 3, "filter": "strict", "metrics": ["exact_match"], "exact_match": [1, 2]},
]


def test_every_document_and_metric_is_an_item():
    scores = item_scores("tiny", SAMPLES)
    assert [(score.question_id, score.metric, score.value) for score in scores] == [
        ("tiny/0", "acc", 1.0),
        ("tiny/0", "acc_norm", 0.0),
        ("tiny/1", "acc", 0.0),
        ("tiny/1", "acc_norm", 0.0),
        ("tiny/2", "exact_match,strict", 1.0),
        ("tiny/3", "exact_match,strict", None),
    ]
    rows = {row.metric: row for row in LMEvalHarness(tasks=("tiny",)).metrics(scores, Uncertainty())}
    assert (rows["acc"].value, rows["acc"].n, rows["acc"].slice) == (0.5, 2, "tiny")
    assert (rows["exact_match,strict"].value, rows["exact_match,strict"].unscored) == (1.0, 1)


def test_a_metric_that_is_no_mean_is_refused():
    scores = item_scores("tiny", SAMPLES[:2])
    check_means("tiny", scores, {"tiny": {"acc,none": 0.5, "acc_norm,none": 0.0}})
    with pytest.raises(HarnessFailure, match="not the mean"):
        check_means("tiny", scores, {"tiny": {"acc,none": 1.7, "acc_norm,none": 0.0}})


def test_a_group_that_reports_a_mean_is_one_slice_and_its_other_metrics_stay_with_the_tasks():
    results = {
        "samples": {"one": SAMPLES[:2], "two": SAMPLES[:1]},
        "results": {"one": {"acc,none": 0.5, "acc_norm,none": 0.0}, "two": {"acc,none": 1.0, "acc_norm,none": 0.0}},
        "groups": {"both": {"acc,none": 2 / 3}},  # weighted by size: 2 of 3 documents
    }
    scores = task_scores(LMEvalTask(task="both"), results)
    assert [(score.category, score.question_id) for score in scores if score.metric == "acc"] == [
        ("both", "one/0"),
        ("both", "one/1"),
        ("both", "two/0"),
    ]
    assert [score.category for score in scores if score.metric == "acc_norm"] == ["one", "one", "two"]
    results["groups"]["both"]["acc,none"] = 0.75  # each task weighs the same: no mean over documents
    assert {score.category for score in task_scores(LMEvalTask(task="both"), results)} == {"one", "two"}


def test_only_the_wanted_metrics_are_kept_and_one_that_is_not_there_is_refused():
    results = {"samples": {"one": SAMPLES[:2]}, "results": {"one": {}}, "groups": {}}
    assert {score.metric for score in task_scores(LMEvalTask(task="one", metrics=("acc_norm",)), results)} == {
        "acc_norm"
    }
    with pytest.raises(HarnessFailure, match="one has no metric f1: it has acc, acc_norm"):
        task_scores(LMEvalTask(task="one", metrics=("f1",)), results)


def test_a_task_may_have_settings_of_its_own():
    harness = typed(
        {"tasks": ["a", {"task": "b", "num_fewshot": 25}], "num_fewshot": 3}, LMEvalHarness, at="benchmark.x"
    )
    assert [(one.task, one.num_fewshot) for one in harness.chosen] == [("a", 3), ("b", 25)]
    with pytest.raises(Refusal, match="tasks name a twice"):
        typed({"tasks": ["a", {"task": "a"}]}, LMEvalHarness, at="benchmark.x")
    with pytest.raises(Refusal, match=r"benchmark\.x\.tasks\[0\]: a: num_fewshot is -1: expected 0 or more"):
        typed({"tasks": [{"task": "a", "num_fewshot": -1}]}, LMEvalHarness, at="benchmark.x")


def test_the_leaderboards_first_set_has_its_published_numbers_of_examples():
    entry = compose("eval", ["benchmark=open_llm_v1", "out=x"])["benchmark"]["open_llm_v1"]
    harness = choose(BENCHMARKS, entry, at="benchmark.open_llm_v1")
    assert {(one.task, one.num_fewshot, one.metrics) for one in harness.chosen} == {
        ("arc_challenge", 25, ("acc_norm",)),
        ("hellaswag", 10, ("acc_norm",)),
        ("mmlu", 5, ("acc",)),
        ("truthfulqa_mc2", 0, ("acc",)),
        ("winogrande", 5, ("acc",)),
        ("gsm8k", 5, ("exact_match,strict-match",)),
    }


def test_what_the_tasks_are_made_from_changes_with_any_file_of_the_folder(task):
    harness = LMEvalHarness(tasks=("tiny",), task_folder=".")
    before = harness.origin(task)
    assert harness.origin(task) == before
    (task / "documents.jsonl").write_text("{}\n")
    assert harness.origin(task) != before


def test_the_server_backend_needs_a_server(tmp_path):
    with pytest.raises(HarnessFailure, match="needs the endpoint"):
        LMEvalHarness(tasks=("tiny",)).measure(checkpoint=tmp_path, data=tmp_path)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A Llama of a few thousand random weights with a byte-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("checkpoint")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<eos>", *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>").save_pretrained(path)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    return path


@pytest.fixture
def task(tmp_path):
    """A multiple-choice task of eight documents in a local folder."""
    documents = [{"question": f"{i} + 1 =", "choices": [f" {i + 1}", " many"], "answer": i % 2} for i in range(8)]
    (tmp_path / "documents.jsonl").write_text("".join(json.dumps(one) + "\n" for one in documents))
    (tmp_path / "tiny.yaml").write_text(
        "task: tiny\ndataset_path: json\n"
        "dataset_kwargs: {data_files: {test: $TASK_FOLDER/documents.jsonl}}\n"
        "output_type: multiple_choice\ntest_split: test\ndoc_to_text: question\n"
        'doc_to_choice: "{{choices}}"\ndoc_to_target: answer\n'
        "metric_list: [{metric: acc}, {metric: acc_norm}]\nmetadata: {version: 1.0}\n"
    )
    return tmp_path


@pytest.mark.slow
def test_a_local_task_runs_in_process_and_twice_the_same(checkpoint, task):
    settings = LMEvalHarness(tasks=("tiny",), task_folder=".", backend="hf", max_length=128)
    scores = settings.measure(checkpoint=checkpoint, data=task)
    assert [score.question_id for score in scores if score.metric == "acc"] == [f"tiny/{i}" for i in range(8)]
    assert {score.metric for score in scores} == {"acc", "acc_norm"}
    assert settings.measure(checkpoint=checkpoint, data=task) == scores
    with pytest.raises(HarnessFailure, match="knows no task tinny: did you mean 'tiny'"):
        LMEvalHarness(tasks=("tinny",), task_folder=".", backend="hf").measure(checkpoint=checkpoint, data=task)


@pytest.fixture
def completions(loopback):
    """A completions endpoint whose every token has log-probability minus its id; it keeps what it was asked."""
    asked = []

    def react(path, key, body):
        asked.append({**body, "path": path, "key": key})
        choices = []
        for index, prompt in enumerate(body["prompt"]):
            ids = [*prompt, 0]  # echoed, and one token more
            scores = {
                "token_logprobs": [-float(i) for i in ids],
                "top_logprobs": [{str(i): -float(i)} for i in ids],
            }
            choices.append({"index": index, "text": "", "logprobs": scores})
        return 200, {}, {"choices": choices}

    return f"{loopback(react)}/v1", asked


@pytest.mark.slow
def test_each_task_has_its_own_number_of_examples(checkpoint, task, completions):
    text = (task / "tiny.yaml").read_text().replace("test_split: test", "test_split: test\nfewshot_split: test")
    (task / "tiny.yaml").write_text(text)
    (task / "other.yaml").write_text(text.replace("task: tiny", "task: other"))
    url, asked = completions
    tasks = (LMEvalTask(task="tiny", num_fewshot=0), LMEvalTask(task="other", num_fewshot=2, metrics=("acc",)))
    settings = LMEvalHarness(tasks=tasks, task_folder=".", max_length=256)
    scores = settings.measure(
        checkpoint=checkpoint, data=task, endpoint=Endpoint(base_url=url, model="served", key="k")
    )
    assert {(score.category, score.metric) for score in scores} == {
        ("tiny", "acc"),
        ("tiny", "acc_norm"),
        ("other", "acc"),
    }
    lengths = sorted(len(prompt) for one in asked for prompt in one["prompt"])
    # A byte a token: "7 + 1 =", " many" and an end make 13; two examples add at least 2 * (len("0 + 1 = 1") + 2).
    assert len(lengths) == 32
    assert max(lengths[:16]) <= 13
    assert min(lengths[16:]) >= 9 + 22


@pytest.mark.slow
def test_a_local_task_runs_against_a_server_with_its_key(checkpoint, task, completions, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    url, asked = completions
    settings = LMEvalHarness(tasks=("tiny",), task_folder=".", concurrency=2, max_length=128)
    endpoint = Endpoint(base_url=url, model="served", key="secret-7")
    scores = settings.measure(checkpoint=checkpoint, data=task, endpoint=endpoint)
    # " many" is longer and made of later letters than " <digit>", so it is always less likely; right where answer is 0.
    assert [score.value for score in scores if score.metric == "acc"] == [1.0, 0.0] * 4
    assert {(one["path"], one["model"], one["key"]) for one in asked} == {
        ("/v1/completions", "served", "Bearer secret-7")
    }
    assert "OPENAI_API_KEY" not in os.environ
