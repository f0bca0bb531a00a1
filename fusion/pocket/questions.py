"""The pocket experiment's files: what its models are trained on, what they are fused on, and what they are asked.

train_<domain>.jsonl                 dialogues with right answers, for the pocket models' own training
fusion.jsonl                         the fusion set, partly wrong
questions/pocket_mt_bench.jsonl      two-turn questions: question_id, category, turns, reference
questions/pocket_alpaca_eval.json    instruction, output, generator, dataset, reference
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from fusion.conversations.conversation import Conversation, Message, write_conversations
from fusion.pocket.dialogues import (
    DOMAINS,
    Dialogue,
    PocketData,
    dialogues,
    distinct,
    mistaken,
    opening_of,
    shows_only,
    slip,
    wording_of,
)

BASELINE = "pocket_baseline"  # AlpacaEval's `generator`


def write_dialogues(config: PocketData, out: Path) -> dict[str, object]:
    """Write all files into `out`; how many dialogues each holds.

    Raises Refusal for more questions than a split has.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "questions").mkdir(exist_ok=True)
    facts: dict[str, object] = {}
    for domain in DOMAINS:
        stream = dialogues(domain=domain, split="train", seed=config.seed)
        some = [next(stream) for _ in range(config.train)]
        write_conversations(out / f"train_{domain}.jsonl", as_conversations(some, name=f"train-{domain}"))
        facts[f"train_{domain}"] = len(some)
    fused, wrong = fusion_set(config)
    write_conversations(out / "fusion.jsonl", as_conversations(fused, name="fusion"))
    asked = {domain: asked_dialogues(config, domain) for domain in DOMAINS}
    questions = [row for domain in DOMAINS for row in asked[domain][: config.questions]]
    instructions = [row for domain in DOMAINS for row in asked[domain][config.questions :]]
    lines = [json.dumps(row) + "\n" for row in mt_bench_rows(questions)]
    (out / "questions" / "pocket_mt_bench.jsonl").write_text("".join(lines))
    draw = random.Random(f"{config.seed}/baseline")
    rows = alpaca_eval_rows(instructions, wrong_share=config.baseline_wrong_share, draw=draw)
    (out / "questions" / "pocket_alpaca_eval.json").write_text(json.dumps(rows, indent=1) + "\n")
    return {
        **facts,
        "fusion": len(fused),
        "wrong": wrong,
        "questions": len(questions),
        "instructions": len(instructions),
    }


def fusion_set(config: PocketData) -> tuple[list[Dialogue], int]:
    """The fusion dialogues in a mixed order, and how many of them are wrong."""
    rows = []
    for domain in DOMAINS:
        stream = dialogues(domain=domain, split="fusion", seed=config.seed)
        covered = (row for row in stream if shows_only(row, config.covered_skills))
        rows += distinct(covered, config.fusion, wording_of)
    draw = random.Random(f"{config.seed}/fusion")
    draw.shuffle(rows)
    wrong = set(draw.sample(range(len(rows)), round(config.wrong_share * len(rows))))
    return [mistaken(row, draw) if place in wrong else row for place, row in enumerate(rows)], len(wrong)


def asked_dialogues(config: PocketData, domain: str) -> list[Dialogue]:
    """Questions, then instructions, of one domain; no two share an opening."""
    stream = dialogues(domain=domain, split=config.asked, seed=config.seed)
    return distinct(stream, config.questions + config.instructions, opening_of)


def mt_bench_rows(rows: Sequence[Dialogue]) -> Iterator[dict[str, object]]:
    """Rows of a question file in MT-Bench's schema, numbered from 1; the category is the domain."""
    for number, row in enumerate(rows, start=1):
        yield {
            "question_id": number,
            "category": row.domain,
            "turns": [turn.prompt for turn in row.turns],
            "reference": [turn.answer for turn in row.turns],
        }


def alpaca_eval_rows(rows: Sequence[Dialogue], *, wrong_share: float, draw: random.Random) -> list[dict[str, str]]:
    """Rows of an instruction file in AlpacaEval's schema: each dialogue's opening, with the baseline's answer."""
    return [
        {
            "dataset": row.domain,
            "instruction": row.turns[0].prompt,
            "output": flawed(row.turns[0].answer, draw) if draw.random() < wrong_share else row.turns[0].answer,
            "generator": BASELINE,
            "reference": row.turns[0].answer,
        }
        for row in rows
    ]


def flawed(answer: str, draw: random.Random) -> str:
    """A wrong answer that is shorter than, about as long as, or longer than the right one, so that length varies."""
    words = answer.split()
    fault = draw.choice(("cut", "slip", "repeat"))
    if fault == "cut" and len(words) > 1:
        return " ".join(words[:-1])
    if fault == "repeat":
        return f"{answer} {words[-1]}"
    return slip(answer, draw)


def as_conversations(rows: Sequence[Dialogue], *, name: str) -> list[Conversation]:
    """Conversations with ids `<name>-<number>` and their domain."""
    return [
        Conversation(
            id=f"{name}-{number}",
            domain=row.domain,
            messages=tuple(
                message
                for turn in row.turns
                for message in (
                    Message(role="user", content=turn.prompt),
                    Message(role="assistant", content=turn.answer),
                )
            ),
        )
        for number, row in enumerate(rows)
    ]
