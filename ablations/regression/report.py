"""What a regression check found, as text for a terminal, as Markdown, and as JUnit XML for CI systems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from ablations.regression.causes import Cause, Change
from ablations.regression.scores import Moved
from eval.markdown import inert, markup_table
from fusion.runtime.visible import visible

ACCEPT = "`make eval UPDATE=1` keeps what is there now"
ELSEWHERE = (
    "A difference made by another library or machine looks like a regression: keep a baseline of the commit to compare"
    " with, made with the same ones"
)
_SHOWN = 4  # names of models in one line


@dataclass(frozen=True, kw_only=True)
class Check:
    """`places`: every number of the kept table; `links`: every artifact, as "stage what"; `note`: what is not known."""

    places: tuple[str, ...]
    moved: tuple[Moved, ...]
    links: tuple[str, ...]
    changes: tuple[Change, ...]
    note: str = ""

    @property
    def failed(self) -> bool:
        """Whether a number left its interval, or code, settings or data gave an artifact other content."""
        return any(one.fails for one in self.moved) or any(one.fails for one in self.changes)

    @property
    def verdict(self) -> str:
        """How the check ends, in a sentence."""
        beyond, within = sum(one.fails for one in self.moved), len(self.places)
        if beyond:
            return f"failed: {beyond} of {within} metrics left their intervals"
        metrics = f"{within} metrics within their intervals"
        if self.failed:
            places = ", ".join(_names([change for change in self.changes if change.fails]))
            return f"failed: {metrics}, but {places} changed; {ACCEPT}"
        return f"passed: {metrics}"


def text(check: Check) -> str:
    """For a terminal: the metrics that left their intervals, the first changed artifact and why."""
    lines = [str(entry) for entry in check.moved if entry.kind != "within"]
    within = sum(entry.kind == "within" for entry in check.moved)
    if within:
        lines.append(f"within     {within} metrics moved inside their intervals")
    return "".join(f"{visible(line)}\n" for line in [*lines, *chain_lines(check.changes), *filter(None, [check.note])])


def chain_lines(changes: Sequence[Change]) -> Iterator[str]:
    """Which artifact changed first and why, what else has a cause of its own, what follows, what did no harm."""
    changed = [change for change in changes if change.status == "changed"]
    said: set[Cause] = set()
    for causes, group in _by_causes([change for change in changed if change.first]):
        said.update(causes)
        yield f"changed first: {', '.join(_names(group))}{_files(group)}"
        yield from (f"    {cause}" for cause in causes)
    for causes, group in _by_causes([change for change in changed if not change.first]):
        more = [cause for cause in causes if cause not in said]
        if more:
            said.update(more)
            yield f"changed also by itself: {', '.join(_names(group))}"
            yield from (f"    {cause}" for cause in more)
    follows = Counter(change.stage for change in changed if not change.first)
    if follows:
        yield f"changed with it: {', '.join(f'{stage} {count}' for stage, count in follows.items())}"
    for causes, group in _by_causes([change for change in changes if change.status == "same bytes"]):
        if causes:
            yield f"no harm: {', '.join(_names(group))} computed again, with the same bytes"
            yield from (f"    {cause}" for cause in causes)
    for status, words in (("new", "not in the baseline"), ("gone", "in the baseline only")):
        names = _names([change for change in changes if change.status == status])
        if names:
            yield f"{words}: {', '.join(names)}"
    if any(cause.kind in ("library", "unexplained") for cause in said):
        yield f"{ELSEWHERE}."


def markdown(check: Check) -> str:
    """A page for a CI system's summary: the verdict, the chain, and every metric that moved."""
    lines = [f"## Regression check {check.verdict}", ""]
    chain = [*chain_lines(check.changes), *filter(None, [check.note])]
    if chain:
        lines += ["```text", *(visible(line).replace("```", "'''") for line in chain), "```", ""]
    rows = []
    for entry in sorted(check.moved, key=lambda entry: not entry.fails):
        mark = f"**{entry.kind}**" if entry.fails else entry.kind
        kept, low, high, now = (
            "" if x is None else f"{x:.3f}" for x in (entry.before, entry.low, entry.high, entry.after)
        )
        names = map(inert, (entry.model, entry.benchmark, entry.metric, entry.slice))
        rows.append([mark, *names, kept, f"{low} to {high}", now])
    if rows:
        lines += markup_table(("", "model", "benchmark", "metric", "slice", "kept", "interval", "now"), rows)
    return "\n".join(lines) + "\n"


def junit(check: Check) -> str:
    """One test case for each kept metric, failed where it left its interval, and one for each artifact."""
    cause = "\n".join(chain_lines(check.changes))
    suites = ElementTree.Element("testsuites", name="regression")
    moved = {entry.place: entry for entry in check.moved}
    beyond = {place: f"{moved[place]}\n{cause}" for place in check.places if place in moved and moved[place].fails}
    _suite(suites, "metrics", check.places, beyond)
    other = {
        f"{change.stage} {change.what}": "\n".join(map(str, change.causes)) for change in check.changes if change.fails
    }
    _suite(suites, "artifacts", check.links, other)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _suite(parent: ElementTree.Element, name: str, cases: Sequence[str], failures: dict[str, str]) -> None:
    suite = ElementTree.SubElement(parent, "testsuite", name=name, tests=str(len(cases)), failures=str(len(failures)))
    for case in cases:
        element = ElementTree.SubElement(suite, "testcase", classname=f"{name}.{case.split()[0]}", name=case)
        if case in failures:
            said = "".join(c for c in failures[case] if c.isprintable() or c == "\n")  # XML has no place for others
            ElementTree.SubElement(element, "failure", message=said.split("\n")[0]).text = said


def _by_causes(changes: Sequence[Change]) -> Iterator[tuple[tuple[Cause, ...], list[Change]]]:
    groups: dict[tuple[Cause, ...], list[Change]] = {}
    for change in changes:
        groups.setdefault(change.causes, []).append(change)
    yield from groups.items()


def _names(changes: Sequence[Change]) -> list[str]:
    """ "merge ties, sce": each stage once, before the models it was computed for."""
    stages: dict[str, list[str]] = {}
    for change in changes:
        stages.setdefault(change.stage, []).append(change.what)
    return [f"{stage} {_listed([*dict.fromkeys(what)])}" for stage, what in stages.items()]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names) if more < 2 else f"{', '.join(names[:_SHOWN])} and {more} more"


def _files(changes: Sequence[Change]) -> str:
    """The files that changed, where they are few enough to say something."""
    files = [*dict.fromkeys(name for change in changes for name in change.files)]
    return f" ({', '.join(files)})" if len(files) <= 3 else f" ({len(files)} files)"
