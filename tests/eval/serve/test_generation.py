"""What serve=transformers gives the model to read, against the model asked directly."""

from dataclasses import dataclass, field
from typing import Any

import torch
from tokenizers import processors
from transformers import AutoModelForCausalLM, AutoTokenizer

from eval.serve.chat_template import ChatTemplate
from eval.serve.generation import Generator, turn_end


@dataclass(kw_only=True)
class Job:
    """One request at temperature 0."""

    messages: Any
    max_tokens: int = 6
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    top_logprobs: int | None = None
    result: dict[str, Any] | None = field(default=None)


def test_a_prompt_is_what_the_chat_template_writes_and_begins_once(make_checkpoint):
    checkpoint = make_checkpoint(3)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    begin, end = "<|system|>", "<|end|>"
    ids = [(token, tokenizer.convert_tokens_to_ids(token)) for token in (begin, end)]
    tokenizer.chat_template = begin + tokenizer.chat_template
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=ids
    )
    tokenizer.save_pretrained(checkpoint)
    read = AutoTokenizer.from_pretrained(checkpoint)
    assert read("seven")["input_ids"][0] == ids[0][1]  # a tokenizer that begins every text, as Llama's does

    generator = Generator.load(checkpoint, dtype="float32", device="cpu", longest=None)
    job = Job(messages=generator.template.one_message([{"role": "user", "content": "seven and nine"}]))
    generator.complete([job])
    assert job.result is not None

    # By hand: the template's special tokens, the words between them, the model's likeliest token six times.
    user, assistant = (tokenizer.convert_tokens_to_ids(token) for token in ("<|user|>", "<|assistant|>"))
    words = read("seven and nine", add_special_tokens=False)["input_ids"]
    said = [ids[0][1], user, *words, ids[1][1], assistant]
    assert job.result["usage"]["prompt_tokens"] == len(said)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    answer: list[int] = []
    while len(answer) < 6 and ids[1][1] not in answer:
        answer.append(int(model(torch.tensor([said + answer])).logits[0, -1].argmax()))
    text = read.decode([token for token in answer if token != ids[1][1]], skip_special_tokens=True)
    assert job.result["choices"][0]["message"]["content"] == text


def test_an_answer_ends_where_the_template_ends_one_whatever_the_model_says_its_end_is(make_checkpoint):
    checkpoint = make_checkpoint(3)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    assert turn_end(tokenizer, ChatTemplate.of(tokenizer)) == tokenizer.convert_tokens_to_ids("<|end|>")
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    assert turn_end(tokenizer, ChatTemplate.of(tokenizer)) is None  # ends by words
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    assert turn_end(tokenizer, ChatTemplate.of(tokenizer)) is None
