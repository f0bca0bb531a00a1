"""Two chains beside each other: which artifact changed first, and by what.

An artifact changed when its content did.  One that was computed again, under another key, and holds the same bytes, is
listed separately: what changed there did no harm.  A change has causes of its own (a setting, a module, a data file, a
library) or follows from what it was made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ablations.regression.chain import Link

CauseKind = Literal["config", "code", "data", "library", "unexplained"]
Status = Literal["changed", "same bytes", "new", "gone"]
LinkPlace = tuple[str, str, int]
# Settings that are digests of content: what they say when it did not come from an earlier link.
_CONTENT = {
    "asked": "other questions, or asked in another way",
    "said": "other conversations",
    "plan": "the judge is shown something else: questions, prompts or their order",
}
# Inputs that are digests of some of the data's files.
_OF_DATA = frozenset({"dialogues", "conversations", "text"})
# Rows whose answers are made of other rows' answers.
_OF_OTHERS = frozenset({"ensemble", "oracle"})
_ASKED = ("answers", "perplexity", "measured", "verdicts")
UNEXPLAINED = (
    "the same recipe gave other bytes: it is not deterministic, a file was damaged, or it depends on something that no"
    " key holds, such as the machine"
)


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why an artifact is not what it was."""

    kind: CauseKind
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One link that is not as it was kept.  `causes` are its own; `first`: nothing that it is made of changed.

    `files` are those with other content.
    """

    stage: str
    what: str
    status: Status
    causes: tuple[Cause, ...] = ()
    first: bool = False
    files: tuple[str, ...] = ()

    @property
    def fails(self) -> bool:
        """Whether code, settings or data gave other content, which must be accepted by a new baseline.

        What a library or another machine changes is judged by the metrics alone.
        """
        return self.status == "changed" and any(cause.kind in ("config", "code", "data") for cause in self.causes)


def compare_chains(now: Sequence[Link], kept: Sequence[Link]) -> list[Change]:
    """Every link that was computed in another way or has other content, in the order of the chain, then those gone."""
    known, present = dict(_placed(kept)), dict(_placed(now))
    contents = {link.content for link in kept} | {link.content for link in now}
    changed: set[LinkPlace] = set()
    found = []
    for place, link in present.items():
        before = known.get(place)
        if before is None:
            found.append(Change(stage=link.stage, what=link.what, status="new"))
            continue
        follows = any(parent in changed for parent in _parents(place, link, present))
        causes = tuple(_own(before, link, contents, follows))
        files = tuple(
            name for name in {**before.output, **link.output} if before.output.get(name) != link.output.get(name)
        )
        if files:
            changed.add(place)
            if not causes and not follows:
                causes = (Cause(kind="unexplained", text=UNEXPLAINED),)
        elif before.key == link.key:
            continue
        found.append(
            Change(
                stage=link.stage,
                what=link.what,
                status="changed" if files else "same bytes",
                causes=causes,
                first=bool(files) and not follows,
                files=files,
            )
        )
    return found + [Change(stage=place[0], what=place[1], status="gone") for place in known if place not in present]


def _placed(links: Sequence[Link]) -> Iterator[tuple[LinkPlace, Link]]:
    seen: dict[tuple[str, str], int] = {}
    for link in links:
        name = (link.stage, link.what)
        seen[name] = seen.get(name, 0) + 1
        yield (*name, seen[name]), link


def _parents(place: LinkPlace, link: Link, present: Mapping[LinkPlace, Link]) -> Iterator[LinkPlace]:
    """What a link is made of: by the contents of its inputs, and by those that its settings are digests of."""
    inputs = set(link.inputs.values())
    yield from (other for other, found in present.items() if found.content in inputs and other != place)
    for other in present:
        if _holds_content_of(place, other):
            yield other
    if link.role in _OF_OTHERS and link.stage == "answers":
        yield from (
            other for other, found in present.items() if found.stage == "answers" and found.role not in _OF_OTHERS
        )


def _holds_content_of(place: LinkPlace, other: LinkPlace) -> bool:
    (stage, what, _), (stage_of_other, other_what, _) = place, other
    if stage == "table":
        return stage_of_other == "score"
    if stage == "score":
        return stage_of_other in _ASKED
    if stage_of_other == "answers" and stage in ("perplexity", "verdicts"):
        return what.split(" · ")[:2] == other_what.split(" · ")[:2]
    return stage_of_other == "data" and stage != "data"


def _own(before: Link, after: Link, contents: set[str], follows: bool) -> Iterator[Cause]:
    for name, old, new in _differences(before.config, after.config):
        if name not in _CONTENT:
            yield Cause(kind="config", text=f"{name or 'settings'} {_spell(old)} -> {_spell(new)}")
        elif not follows:
            yield Cause(kind="data", text=_CONTENT[name])
    if before.code and after.code:
        modules = [name for name in {**before.code, **after.code} if before.code.get(name) != after.code.get(name)]
        if modules:
            yield Cause(kind="code", text=", ".join(sorted(modules)))
    if before.inputs.keys() != after.inputs.keys():
        yield Cause(kind="config", text=f"made of {', '.join(after.inputs)}; was of {', '.join(before.inputs)}")
    for role in before.inputs.keys() & after.inputs.keys():
        old, new = before.inputs[role], after.inputs[role]
        if old != new and not {old, new} & contents and not (follows and role in _OF_DATA):
            yield Cause(kind="data", text=f"the input {role} is another ({old[:12]} -> {new[:12]})")
    for name in before.versions.keys() & after.versions.keys():
        if before.versions[name] != after.versions[name]:
            yield Cause(kind="library", text=f"{name} {before.versions[name]} -> {after.versions[name]}")


def _differences(before: object, after: object, at: str = "") -> Iterator[tuple[str, object, object]]:
    """(dotted name, old, new) of every setting that differs."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        pairs = [(str(name), before.get(name), after.get(name)) for name in {**before, **after}]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = [(str(place), old, new) for place, (old, new) in enumerate(zip(before, after, strict=True))]
    else:
        if before != after:
            yield at, before, after
        return
    for name, old, new in pairs:
        yield from _differences(old, new, f"{at}.{name}" if at else name)


def _spell(value: object) -> str:
    text = "unset" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
