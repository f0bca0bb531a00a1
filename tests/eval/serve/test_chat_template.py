"""What a served model is shown is what training shows, rendered within bounds, before and while it is asked."""

import contextlib
import shutil
import time
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from eval.answer.candidate import Candidate
from eval.answer.stages import Stages
from eval.benchmarks import MTBench
from eval.config import EvalConfig
from eval.exchange import JudgeRequest
from eval.judges import Reference, Served
from eval.judges.served import RunningJudge
from eval.scores.intervals import Uncertainty
from eval.serve import VLLM, ExistingEndpoint, Serve, Transformers, serving
from eval.serve.chat_client import ChatReply, ChatRequest, ask
from eval.serve.chat_template import ChatTemplate, chat_template
from eval.serve.endpoint_client import Patience
from fusion.conversations.conversation import Conversation, Message
from fusion.conversations.template import label_rows
from fusion.runtime.artifacts import Store
from fusion.runtime.configure import Refusal
from fusion.runtime.progress import RunProgress
from fusion.runtime.templates.pinned import DATE
from fusion.runtime.templates.rendering import TemplateFault

TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
CHAT = TURNS + "{% if add_generation_prompt %}<|assistant|>{% endif %}"
DATED = "Today is {{ strftime_now('%d %b %Y') }}.\n" + CHAT
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHAT
SILENT = "{% for m in messages if m.role != 'system' %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"
HOSTILE = {
    "endless": "{% for i in range(10**5) %}{% for j in range(10**5) %}{% endfor %}{% endfor %}",
    "doubling": "{% set n = namespace(t='ab') %}{% for i in range(60) %}{% set n.t = n.t + n.t %}{% endfor %}{{ n.t }}",
    "lipsum": "{{ lipsum(n=100000) }}",
    "long": "{% for i in range(99999) %}{{ 'a' * 999 }}{% endfor %}",
    "behind a question": "{% if 'seven' in messages[0].content %}{% for i in range(10**5) %}{% for j in range(10**5) %}"
    "{% endfor %}{% endfor %}{% endif %}" + CHAT,
    "by chance": "{{ [1, 2, 3] | random }}" + CHAT,
    "none": "",
}
LOOP_LATER = "{% if messages | length > 1 %}" + HOSTILE["endless"] + "{% endif %}" + CHAT
SECONDS = 10


@pytest.fixture(scope="module")
def plain(make_checkpoint) -> Path:
    return make_checkpoint(1)


@pytest.fixture
def wearing(plain, tmp_path):
    """`wearing(template)`: a checkpoint with that chat template."""

    def dress(template: str) -> Path:
        out = tmp_path / f"worn-{len([*tmp_path.iterdir()])}"
        shutil.copytree(plain, out)
        (out / "chat_template.jinja").write_text(template)
        if not template:
            (out / "chat_template.jinja").unlink()
        return out

    return dress


def said(checkpoint: Path, request: ChatRequest) -> ChatReply:
    found: list[ChatReply] = []
    with serving(Transformers(dtype="float32"), logs=checkpoint / "logs") as server:
        server.load(checkpoint)
        ask(server.endpoint, [request], lambda _, reply: found.append(reply), patience=Patience(attempts=1))
    return found[0]


def test_a_prompt_is_what_training_reads_before_the_answer(wearing):
    checkpoint = wearing(CHAT)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    turns = [("system", "Count."), ("user", "seven"), ("assistant", "nine"), ("user", "And?"), ("assistant", "the end")]
    messages = tuple(Message(role=role, content=content) for role, content in turns)
    (row,) = label_rows(tokenizer, [Conversation(id="c", messages=messages)], max_length=999)
    prompt = chat_template(checkpoint).prompt([{"role": role, "content": content} for role, content in turns[:-1]])
    learned = row.positions[row.turn == 1]
    assert tokenizer(prompt, add_special_tokens=False)["input_ids"] == row.input_ids[: learned[0]].tolist()


def test_today_is_the_pinned_day_whoever_is_asked(wearing):
    assert DATE == "2024-07-26"
    prompt = chat_template(wearing(DATED)).prompt([{"role": "user", "content": "seven"}])
    assert prompt.startswith("Today is 26 Jul 2024.\n<|user|>seven")
    assert said(wearing(DATED), ChatRequest(id="q", turns=("seven",), max_tokens=3)).failure is None


@pytest.mark.parametrize("template", [NO_SYSTEM, SILENT])
def test_a_system_turn_that_a_template_does_not_take_begins_the_first_user_turn(wearing, template):
    found = chat_template(wearing(template))
    asked = [{"role": "system", "content": "Judge."}, {"role": "user", "content": "seven"}]
    assert found.prompt(asked) == "<|user|>Judge.\n\nseven<|end|><|assistant|>"
    reply = said(wearing(template), ChatRequest(id="q", system="Judge.", turns=("seven",), max_tokens=3))
    assert reply.failure is None
    tokens = AutoTokenizer.from_pretrained(wearing(CHAT))(found.prompt(asked), add_special_tokens=False)["input_ids"]
    assert reply.prompt_tokens == len(tokens)


def test_a_last_message_goes_on_where_it_ends(wearing):
    chat = [{"role": "user", "content": "seven"}, {"role": "assistant", "content": "The answer is "}]
    assert chat_template(wearing(CHAT)).begun(chat) == "<|user|>seven<|end|><|assistant|>The answer is"


@pytest.mark.parametrize("serve", [Transformers(), VLLM()])
@pytest.mark.parametrize("name", HOSTILE)
def test_an_unfit_template_is_refused_in_seconds_before_a_server_starts(wearing, tmp_path, name, serve):
    checkpoint = wearing(HOSTILE[name])
    (tmp_path / "questions.jsonl").write_text(
        '{"question_id": 1, "category": "c", "turns": ["What is seven?", "Why?"]}\n'
    )
    run = stages(tmp_path, serve)
    candidate = Candidate(model="m", group="Models", path=checkpoint, weights=name)
    benchmark = run.config.judged["mt_bench"]
    loaded = benchmark.load(benchmark.files(tmp_path))
    began = time.monotonic()
    with pytest.raises(Refusal, match="the chat template of .* cannot be served .*conf/model"):
        run.answers(candidate, "mt_bench", loaded)
    assert time.monotonic() - began < SECONDS


def test_an_unfit_template_of_a_served_judge_is_refused_before_its_server_starts(wearing, tmp_path):
    settings = Served(checkpoint=str(wearing(HOSTILE["endless"])))
    request = JudgeRequest(
        question_id="1",
        turn=1,
        benchmark="mt_bench",
        model="m",
        form="rating",
        question="q",
        answers=("a",),
        reference=None,
        messages=({"role": "user", "content": "Rate this."},),
    )
    with contextlib.ExitStack() as stack:
        judge = RunningJudge(settings, VLLM(), stack, logs=tmp_path, say=print)
        with pytest.raises(Refusal, match="cannot be served"):
            judge.judge([request], lambda asked, reply: None)
    assert [*tmp_path.rglob("vllm.log")] == []


def test_a_template_that_fails_later_costs_that_turn_alone(wearing):
    reply = said(wearing(LOOP_LATER), ChatRequest(id="q", turns=("seven", "nine"), max_tokens=3))
    assert len(reply.turns) == 1
    assert "the chat template cannot render the conversation: it takes more than" in reply.failure


def test_somebody_elses_server_renders_by_itself(plain):
    assert ExistingEndpoint(base_url="http://nowhere", model="m").template_of(plain) is None


def test_a_tokenizer_without_template_says_so_when_it_is_asked(wearing):
    template = ChatTemplate.of(AutoTokenizer.from_pretrained(wearing("")))
    with pytest.raises(TemplateFault, match="add chat_template.jinja"):
        template.prompt([{"role": "user", "content": "seven"}])


def stages(data: Path, serve: Serve) -> Stages:
    config = EvalConfig(
        serve=serve,
        benchmarks={"mt_bench": MTBench(questions="questions.jsonl")},
        judges={"mt_bench": Reference()},
        uncertainty=Uncertainty(),
        data=data,
        artifacts=data / "artifacts",
    )

    def no_server():
        raise AssertionError("a server was started")

    return Stages(
        config=config, progress=RunProgress(), store=Store(root=config.artifacts), server=no_server, serve=serve
    )
