"""One self-contained HTML page on which every question, answer and verdict behind a report can be read.

The page is a template with one JSON island; its script draws the questions that are on screen.  Model text is data
twice over: it cannot end the island, and the script puts it on the page as text.  Nothing is fetched, and by the page's
own policy no other script runs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from eval.benchmarks import judged, metric_of
from eval.records import Question, Unscored, Verdict
from eval.report.sections import escaped
from eval.scored import GROUPS, ScoredModel, ShownAnswers

# Characters that could end or open something in the HTML around the island; JSON knows other spellings of them.
_ISLAND = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


def answers_page(title: str, scored: Sequence[ScoredModel], links: Mapping[str, str]) -> str | None:
    """The whole page; `links` (label to address) stand under its title.  None when no model has answers to show."""
    shown = [entry for entry in scored if entry.shown is not None]
    if not shown:
        return None
    names = dict.fromkeys(entry.benchmark for entry in shown)
    data = {"benchmarks": [_benchmark(name, [e for e in shown if e.benchmark == name]) for name in names]}
    template = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    script = template[template.rindex("<script>") + len("<script>") : template.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    filled = {
        "TITLE": escaped(title),
        "POLICY": f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        "LINKS": anchors(links),
        "DATA": json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(_ISLAND),
    }
    return re.sub("@(TITLE|POLICY|LINKS|DATA)@", lambda found: filled[found.group(1)], template)


def anchors(links: Mapping[str, str]) -> str:
    """Links to files beside the page."""
    return "".join(f'<a href="{escaped(address)}">{escaped(label)}</a> ' for label, address in links.items())


def _benchmark(name: str, entries: Sequence[ScoredModel]) -> dict[str, object]:
    shown = [entry.shown for entry in entries if entry.shown is not None]
    questions = {question.id: question for each in shown for question in each.questions}
    known = judged(name)
    metric = known.primary if known is not None else metric_of(name, "")
    ordered = sorted(entries, key=lambda e: GROUPS.index(e.group) if e.group in GROUPS else len(GROUPS))
    return {
        "name": name,
        "metric": metric.name,
        "scale": int(metric.scale),
        "decimals": metric.decimals,
        "questions": [_question(question) for question in questions.values()],
        "opponents": _opponents(shown, list(questions), besides={entry.model for entry in entries}),
        "models": [_model(entry, metric.name, list(questions.values())) for entry in ordered],
    }


def _question(question: Question) -> dict[str, object]:
    return {
        "id": question.id,
        "category": question.category,
        "turns": question.turns,
        "references": question.references or (),
    }


def _opponents(
    shown: Sequence[ShownAnswers], questions: Sequence[str], *, besides: Set[str]
) -> list[dict[str, object]]:
    """Those the models were compared with, unless they are among the models."""
    said: dict[str, dict[str, tuple[str, ...]]] = {}
    for each in shown:
        for answer in each.opponents:
            if answer.model in besides:
                continue
            said.setdefault(answer.model, {})[answer.question_id] = answer.turns
    return [{"name": name, "rows": [rows.get(question) for question in questions]} for name, rows in said.items()]


def _model(entry: ScoredModel, metric: str, questions: Sequence[Question]) -> dict[str, object]:
    assert entry.shown is not None
    answers = {answer.question_id: answer for answer in entry.shown.answers}
    asked = {question.id for question in entry.shown.questions}
    verdicts: dict[str, list[Verdict | Unscored]] = {}
    for verdict in entry.shown.verdicts:
        verdicts.setdefault(verdict.question_id, []).append(verdict)
    scores: dict[tuple[str, int], list[float]] = {}
    for item in entry.items:
        if item.metric == metric and item.value is not None:
            scores.setdefault((item.question_id, item.turn), []).append(item.value)
    rows: list[dict[str, object] | None] = []
    for question in questions:
        if question.id not in asked:
            rows.append(None)
            continue
        answer = answers.get(question.id)
        found = [scores.get((question.id, turn)) for turn in range(1, len(question.turns) + 1)]
        row: dict[str, object] = {
            "said": answer.turns if answer else (),
            "scores": [None if values is None else round(math.fsum(values) / len(values), 6) for values in found],
            "verdicts": [_verdict(verdict) for verdict in verdicts.get(question.id, ())],
        }
        if answer is None or answer.reason:
            row["why"] = (answer.reason if answer else None) or "no answer"
        rows.append(row)
    overall = next((row.value for row in entry.metrics if (row.metric, row.slice) == (metric, "all")), None)
    return {"name": entry.model, "group": entry.group, "value": overall, "rows": rows}


def _verdict(verdict: Verdict | Unscored) -> dict[str, object]:
    row: dict[str, object] = {
        "turn": verdict.turn,
        "judge": verdict.judge,
        "words": verdict.text,
        "opponent": verdict.opponent,
        "order": verdict.order,
        "repeat": verdict.repeat,
    }
    row = {name: value for name, value in row.items() if value}
    if isinstance(verdict, Unscored):
        return {**row, "value": None, "reason": verdict.reason}
    tokens = {"tokens": _tokens(verdict.top_logprobs)} if verdict.top_logprobs else {}
    return {**row, "value": verdict.value, **tokens}


def _tokens(top_logprobs: Sequence[tuple[str, float]]) -> str:
    """The first tokens the judge weighed, with their probabilities."""
    likely = sorted(top_logprobs, key=lambda pair: -pair[1])[:3]
    return ", ".join(
        f"{token.strip() or repr(token)} {100 * math.exp(min(0.0, chance)):.1f}%" for token, chance in likely
    )
