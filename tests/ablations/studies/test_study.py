"""Studies: names and settings agree with conf/study, and what is compared is compared on the same questions."""

import json
from dataclasses import replace

import pytest
import yaml

from ablations.cell import find_cells
from ablations.studies import STUDIES
from ablations.studies.arms import ArmChoice
from ablations.studies.findings import write_findings
from ablations.studies.study import Claim, Finding, Study
from ablations.sweep.cells import expand
from eval.config import eval_config
from eval.records import ItemScore
from eval.report.write import write_report
from eval.scored import ScoredModel
from eval.scores.intervals import Uncertainty, mean_interval
from eval.scores.metric_row import MetricRow
from fusion.expected import dialogues_of
from fusion.pipeline import fusion_config
from fusion.planned import Book, walked
from fusion.runtime.command import group_names
from fusion.runtime.configure import Refusal
from fusion.runtime.places import CONF

UNCERTAINTY = Uncertainty(seed=0)


def parameters(name: str) -> dict[str, str]:
    return {
        k: str(v)
        for k, v in yaml.safe_load((CONF / "study" / f"{name}.yaml").read_text())["hydra"]["sweeper"]["params"].items()
    }


def choices(value: str) -> list[str]:
    """The values of a sweep: split at commas that lie in no bracket."""
    parts, depth = [""], 0
    for character in value:
        depth += (character == "[") - (character == "]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def test_every_study_has_a_file_and_every_file_a_study():
    assert set(group_names("study")) == set(STUDIES)
    for name in STUDIES:
        assert yaml.safe_load((CONF / "study" / f"{name}.yaml").read_text())["sweep_name"] == name


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_compares_arms_that_it_sweeps(name):
    swept = {axis: choices(value) for axis, value in parameters(name).items()}
    study = STUDIES[name]
    for place in (study.claim.arm, study.reference):
        for axis, value in (place.axes or {}).items():
            assert value in swept[axis], f"{axis}={value} is not swept by conf/study/{name}.yaml"
    assert study.claim.arm != study.reference


@pytest.mark.parametrize("name", STUDIES)
def test_every_arm_of_a_study_composes_and_is_typed(name):
    """As `python -m ablations experiment=pocket study=NAME` would launch it."""
    sweep = expand("ablations", ["experiment=pocket", f"study={name}", "seed=0"])
    assert sweep.multirun
    for cell in sweep.cells:
        settings = sweep.compose(cell).settings
        assert fusion_config(settings).name == "pocket"
        eval_config(settings)


def test_every_arm_of_the_controls_trains_as_many_targets_and_shares_what_is_the_same(tmp_path):
    sweep = expand("ablations", ["experiment=pocket_smoke", "study=controls", "seed=0", f"paths.artifacts={tmp_path}"])
    book = Book()
    for cell in sweep.cells:
        config = fusion_config(sweep.compose(cell).settings)
        _, models = walked(config, book, tmp_path, dialogues_of(config, None))
        targets = [model.key for model in models.checkpoints if model.role == "target"]
        assert len(set(targets)) == len(config.sources) == 3
    assert len([stage for stage, _ in book.stages if stage == "train"]) == 7 * 3
    assert len([stage for stage, _ in book.stages if stage == "merge"]) == 7 * 7
    assert len([stage for stage, _ in book.stages if stage == "pretrain"]) == 4


@pytest.mark.parametrize(("held", "drawn"), [([], 2), (["draw=0"], 1)])
def test_the_seeds_of_a_study_are_draws_of_the_models_unless_the_draw_is_held(held, drawn, tmp_path):
    given = ["experiment=pocket_smoke", "study=merge_rule", "seed=0,1", *held, f"paths.artifacts={tmp_path}"]
    sweep = expand("ablations", given)
    pivots = set()
    for cell in sweep.cells:
        config = fusion_config(sweep.compose(cell).settings)
        _, models = walked(config, Book(), tmp_path, dialogues_of(config, None))
        pivots |= {model.key for model in models.checkpoints if model.role == "pivot"}
    assert len(pivots) == drawn
    # The draw is in no cell's name unless somebody asked for it, so it is no axis of the report.
    assert all(("draw" in sweep.compose(cell).name) == bool(held) for cell in sweep.cells)


# They vary how the pocket experiment's dialogues are written, which given ones are already.
OF_WRITTEN_DIALOGUES = {"label_quality": "wrong_share", "skill_coverage": "covered_skills"}


@pytest.mark.parametrize(("name", "setting"), OF_WRITTEN_DIALOGUES.items())
def test_a_study_of_how_dialogues_are_written_is_refused_where_they_are_given(name, setting):
    sweep = expand("ablations", ["experiment=small_gpu", f"study={name}", "seed=4"])
    with pytest.raises(Refusal, match=rf"unknown key 'data\.pocket\.{setting}'.*but data=pocket and data=pocket_smoke"):
        sweep.compose(sweep.cells[0])


@pytest.mark.parametrize("name", [name for name in STUDIES if name not in OF_WRITTEN_DIALOGUES])
def test_a_study_runs_on_models_that_somebody_gave(name):
    sweep = expand("ablations", ["experiment=small_gpu", f"study={name}", "seed=4"])
    assert fusion_config(sweep.compose(sweep.cells[0]).settings).seed == 4


def scored(model: str, group: str, ratings: list[float]) -> ScoredModel:
    questions = [str(number) for number in range(len(ratings))]
    items = tuple(
        ItemScore(benchmark="mt_bench", metric="rating", question_id=q, turn=1, category="c", value=value)
        for q, value in zip(questions, ratings, strict=True)
    )
    found = mean_interval(ratings, questions, UNCERTAINTY)
    row = MetricRow(
        benchmark="mt_bench", metric="rating", slice="all", value=found.value, low=found.low, high=found.high,
        n=found.n, unscored=0,
    )  # fmt: skip
    return ScoredModel(model=model, group=group, benchmark="mt_bench", metrics=(row,), items=items)


def cell(where, *, rule: str, seed: int, merged: list[float]) -> None:
    out = where / f"{rule}-{seed}"
    write_report(
        [scored("pivot", "Pivot", [5.0] * 8), scored("merged", "Merged", merged)],
        out,
        title="t",
        uncertainty=UNCERTAINTY,
    )
    content = {
        "name": f"{rule},{seed}", "experiment": "trial", "study": "trial", "seed": seed,
        "axes": {"rule": rule, "same": "x"}, "weights": {"pivot": "p", "merged": f"{rule}{seed}"},
    }  # fmt: skip
    (out / "cell.json").write_text(json.dumps(content))


TRIAL = Study(
    question="Which rule?",
    claim=Claim("b beats a.", source="nobody", arm=ArmChoice(model="merged", axes={"rule": "b"})),
    held=("questions",),
    models=("merged",),
    reference=ArmChoice(axes={"rule": "a"}),
    limits="nothing beyond this test.",
)


def test_arms_are_compared_with_their_reference_question_by_question_over_all_seeds(tmp_path):
    for seed in (0, 1):
        cell(tmp_path, rule="a", seed=seed, merged=[4, 5, 6, 7, 4, 5, 6, 7])
        cell(tmp_path, rule="b", seed=seed, merged=[5, 6, 7, 8, 5, 6, 7, 8 + seed])
        cell(tmp_path, rule="c", seed=seed, merged=[4, 5, 6, 7, 4, 5, 7, 6])
    cells = find_cells(tmp_path)
    assert {tuple(found.axes) for found in cells} == {("rule",)}  # what no cell differs in is no axis
    findings = {(found.axes["rule"], found.slice): found for found in TRIAL.analyse(cells, UNCERTAINTY)}
    assert set(findings) == {("b", "all"), ("b", "c"), ("c", "all"), ("c", "c")}
    b, c = findings["b", "all"], findings["c", "all"]
    # 16 differences of 1, one of them 2; b is higher on all 8 questions: 2 of the 2**8 sign patterns are as extreme.
    assert b.difference == pytest.approx(17 / 16)
    assert b.p == pytest.approx(2 / 256)
    assert b.p_holm == pytest.approx(2 * 2 / 256)
    # One question up, one down, the others equal.
    assert c.difference == pytest.approx(0.0)
    assert c.p == c.p_holm == pytest.approx(1.0)
    assert TRIAL.verdict(b) == "supported"
    assert TRIAL.verdict(c) == "not shown"
    page = write_findings("trial", TRIAL, list(findings.values()), tmp_path)
    assert "**supported** on mt_bench: merged, rule=b less merged, rule=a: +1.062" in page


@pytest.mark.parametrize(
    ("expects", "difference", "p", "said"),
    [
        ("better", 1.0, 0.01, "supported"),
        ("better", -1.0, 0.01, "contradicted"),
        ("worse", -1.0, 0.01, "supported"),
        ("better", 1.0, 0.2, "not shown"),
    ],
)
def test_a_verdict_needs_a_difference_that_survives_the_correction(expects, difference, p, said):
    found = Finding(
        arm="b", reference="a", model="merged", axes={"rule": "b"}, benchmark="mt_bench", metric="rating", slice="all",
        difference=difference, low=None, high=None, p=0.001, p_holm=p, smallest=0.1, n=8, draws=1,
        interval="questions", family=1,
    )  # fmt: skip
    assert replace(TRIAL, claim=replace(TRIAL.claim, expects=expects)).verdict(found) == said


@pytest.mark.parametrize(
    ("low", "high", "p", "said"),
    [
        (-0.05, 0.09, 0.9, "supported"),
        (0.02, 0.09, 0.01, "supported"),  # a difference, and too small to count
        (-0.3, 0.4, 0.9, "not shown"),  # no difference was found, which is no sign that there is none
        (0.05, 0.3, 0.01, "not shown"),  # it may be either side of the margin
        (0.2, 0.4, 0.01, "contradicted"),
        (-0.4, -0.2, 0.01, "contradicted"),
        (0.2, 0.4, 0.3, "not shown"),  # one of many arms, and no finding among them
        (None, None, 1.0, "not shown"),
    ],
)
def test_equality_is_an_interval_within_the_margin_and_never_the_want_of_a_finding(low, high, p, said):
    found = Finding(
        arm="b", reference="a", model="merged", axes={"rule": "b"}, benchmark="mt_bench", metric="rating", slice="all",
        difference=((low or 0) + (high or 0)) / 2, low=low, high=high, p=p, p_holm=p, smallest=0.1, n=8, draws=5,
        interval="draws and questions", family=1,
    )  # fmt: skip
    equal = replace(TRIAL, claim=replace(TRIAL.claim, expects="equal", margin={"rating": 0.1}))
    assert equal.verdict(found) == said
    elsewhere = replace(equal, claim=replace(equal.claim, margin={"percent": 50.0}))
    assert elsewhere.verdict(found) == "not shown"  # no margin was named in this unit


def test_a_claim_of_equality_names_its_margin_and_no_other_claim_has_one():
    with pytest.raises(ValueError, match="expects equal and has no margin: equal needs one"):
        replace(TRIAL.claim, expects="equal")
    with pytest.raises(ValueError, match="better and worse need none"):
        replace(TRIAL.claim, margin={"rating": 0.1})
