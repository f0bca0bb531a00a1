"""What every scheme owes: identity on itself, nothing lost, mass conserved; and the papers' rules by hand."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from fusion.align import ALIGNMENT_SCHEMES, EMPTY, ONE_HOT, TRANSFERRED, AlignConfig, method
from fusion.align.maps.exact_match import EqualToken
from fusion.align.maps.mapping_statistics import SuffixToken
from fusion.align.maps.min_edit_distance import MappedToken
from fusion.align.matches import Decision, Matches, inputs
from fusion.align.method import PreparedMethod
from fusion.align.pair import Reading, VocabularyPair
from fusion.align.project import IdMap, project
from fusion.conversations.vocabulary import Vocabulary, vocabulary
from fusion.distribution import NO_TOKEN, TopK
from fusion.runtime.configure import Refusal, typed

TURNS = ["the cat sat on the mat, 12 + 34 = 46", "naïve 你好 👩‍👩‍👧 end\n\n  x"]
CONFIGS = [AlignConfig(scheme=s, reading=r) for s in ALIGNMENT_SCHEMES for r in get_args(Reading)]
CROSSED = [
    AlignConfig(scheme="em", aligner="byte_span", vocabulary_map="mapping_statistics"),
    AlignConfig(scheme="byte_span", aligner="token_dtw", reading="fixed"),
    AlignConfig(scheme="ms", vocabulary_map="string"),
    AlignConfig(scheme="byte_span", vocabulary_map="longest_prefix"),
    AlignConfig(scheme="byte_span", aligner="equal_span", least_kept=0.0),
]
PAIRS = [("coarse", "fine"), ("unigram", "coarse"), ("fine", "unigram")]


def named(config: AlignConfig) -> str:
    return "-".join([config.scheme, config.reading, *config.pair])


def prepare(config, pivot, source, row_pair):
    roles = [vocabulary(t, end_of_turn=t.eos_token_id) for t in (pivot, source)]
    return PreparedMethod(method(config), *roles, lambda: [row_pair])


def masses(top):
    return np.exp(top.log_probs.astype(np.float64)).sum(1) + np.exp(top.tail.astype(np.float64))


@pytest.mark.parametrize("config", CONFIGS + CROSSED, ids=named)
@pytest.mark.parametrize("name", ["coarse", "fine", "unigram"])
def test_a_tokenizer_aligned_with_itself_gives_back_the_source(tokenizers, represented, config, name):
    row = represented(tokenizers[name], TURNS)
    top, decision = prepare(config, tokenizers[name], tokenizers[name], (row, row)).transfer(row, row, row.top)
    assert (decision.kind == TRANSFERRED).all()
    assert decision.source_position.tolist() == list(range(len(row.label_ids)))
    for field in ("ids", "log_probs", "tail"):
        np.testing.assert_array_equal(getattr(top, field), getattr(row.top, field))


@pytest.mark.parametrize("config", CONFIGS + CROSSED, ids=named)
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_no_position_and_no_mass_is_lost(tokenizers, represented, config, ours, theirs):
    pivot, source = (represented(tokenizers[name], TURNS) for name in (ours, theirs))
    top, decision = prepare(config, tokenizers[ours], tokenizers[theirs], (pivot, source)).transfer(
        pivot, source, source.top
    )
    assert len(top) == len(decision.kind) == len(pivot.label_ids)
    assert set(np.unique(decision.kind)) <= {TRANSFERRED, ONE_HOT, EMPTY}
    assert ((decision.source_position >= 0) == (decision.kind == TRANSFERRED)).all()
    moved = decision.source_position[decision.kind == TRANSFERRED]
    np.testing.assert_allclose(masses(top)[decision.kind == TRANSFERRED], masses(source.top)[moved], atol=1e-6)
    np.testing.assert_allclose(masses(top), 1, atol=2e-3)  # the sources' own rounding to half precision
    for ids in top.ids:
        kept = ids[ids != NO_TOKEN]
        assert len(set(kept)) == len(kept) and (kept < len(tokenizers[ours])).all()
    empty = decision.kind == EMPTY
    assert (top.ids[empty] == NO_TOKEN).all() and (top.tail[empty] == 0).all()
    one_hot = decision.kind == ONE_HOT
    assert (top.log_probs[one_hot, 0] == 0).all() and (top.tail[one_hot] == -np.inf).all()
    gold = pivot.label_ids
    if config.scheme == "mined" and config.reading == "released":
        gold = inputs(pivot)  # the token in front of the label: the position is taught to repeat it
        one_hot &= gold >= 0
    np.testing.assert_array_equal(top.ids[one_hot, 0], gold[one_hot])


@pytest.mark.parametrize("config", [c for c in CONFIGS if c.reading == "fixed"], ids=named)
def test_the_fixed_reading_never_transfers_from_another_prefix(tokenizers, represented, config):
    pivot, source = represented(tokenizers["unigram"], TURNS), represented(tokenizers["coarse"], TURNS)
    decision = prepare(config, tokenizers["unigram"], tokenizers["coarse"], (pivot, source)).decide(pivot, source)
    moved = decision.kind == TRANSFERRED
    places = np.stack([pivot.turn, pivot.start])[:, moved]
    np.testing.assert_array_equal(places, np.stack([source.turn, source.start])[:, decision.source_position[moved]])


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_relabelling_the_source_s_ids_changes_nothing(tokenizers, represented, seed):
    pivot, source = represented(tokenizers["unigram"], TURNS), represented(tokenizers["coarse"], TURNS, seed=seed)
    ours, theirs = (vocabulary(tokenizers[n], end_of_turn=tokenizers[n].eos_token_id) for n in ("unigram", "coarse"))
    new_id = np.random.default_rng(seed).permutation(len(theirs)).astype(np.int32)
    old_id = np.argsort(new_id)
    relabelled = replace(
        theirs,
        pieces=[theirs.pieces[i] for i in old_id],
        spelled=[theirs.spelled[i] for i in old_id],
        **{r: int(new_id[getattr(theirs, r)]) for r in ("bos", "eos", "end_of_turn")},
    )
    moved = replace(
        source,
        label_ids=new_id[source.label_ids],
        top=replace(source.top, ids=np.where(source.top.ids == NO_TOKEN, NO_TOKEN, new_id[source.top.ids])),
    )
    chosen = method(AlignConfig(scheme="byte_span"))
    before, was = PreparedMethod(chosen, ours, theirs, list).transfer(pivot, source, source.top)
    after, now = PreparedMethod(chosen, ours, relabelled, list).transfer(pivot, moved, moved.top)
    np.testing.assert_array_equal(was.kind, now.kind)
    np.testing.assert_array_equal(before.ids, after.ids)
    np.testing.assert_array_equal(before.log_probs, after.log_probs)
    np.testing.assert_array_equal(before.tail, after.tail)


# ------------------------------------------------------------------------------------------- mass without a pivot id
LACKED = 0.7  # what the source gives a token that the pivot has not
SURE = {"Ġsat": LACKED, "Ġon": 0.2, "Ġthe": 0.06}  # the tail holds the rest


def sure_of_what_the_pivot_lacks(tokenizers, represented, **settings):
    """A source that says SURE everywhere, carried to a pivot that has no token " sat": (kind, ids to probabilities)."""
    pivot, source = represented(tokenizers["fine"], ["the cat"]), represented(tokenizers["coarse"], ["the cat"])
    assert tokenizers["fine"].convert_tokens_to_ids("Ġsat") is None
    said = [tokenizers["coarse"].convert_tokens_to_ids(piece) for piece in SURE]
    n = len(source.label_ids)
    top = TopK(
        ids=np.tile(np.array(said, np.int32), (n, 1)),
        log_probs=np.tile(np.log(np.array(list(SURE.values()), np.float32)), (n, 1)),
        tail=np.full(n, np.log(1 - sum(SURE.values())), np.float32),
    )
    config = AlignConfig(**{"scheme": "byte_span", **settings})
    ready = prepare(config, tokenizers["fine"], tokenizers["coarse"], (pivot, source))
    carried, decision = ready.transfer(pivot, source, top)
    np.testing.assert_allclose(masses(carried), 1, atol=1e-5)
    last = len(pivot.label_ids) - 1  # behind the whole text for both
    names = tokenizers["fine"].convert_ids_to_tokens(carried.ids[last][carried.ids[last] != NO_TOKEN].tolist())
    return decision.kind[last], dict(zip(names, np.exp(carried.log_probs[last]).tolist(), strict=False))


def test_by_longest_prefix_the_token_s_mass_goes_to_how_the_pivot_begins_it(tokenizers, represented):
    kind, kept = sure_of_what_the_pivot_lacks(tokenizers, represented, vocabulary_map="longest_prefix")
    begins = max((p for p in tokenizers["fine"].get_vocab() if "Ġsat".startswith(p)), key=len)
    assert kind == TRANSFERRED
    assert kept[begins] == pytest.approx(LACKED, rel=1e-5)
    assert sum(kept.values()) == pytest.approx(sum(SURE.values()), rel=1e-5)


@pytest.mark.parametrize("scheme", ALIGNMENT_SCHEMES)
def test_a_source_sure_of_a_token_the_pivot_lacks_is_not_made_sure_of_another(tokenizers, represented, scheme):
    found = sure_of_what_the_pivot_lacks(
        tokenizers, represented, scheme=scheme, aligner="byte_span", vocabulary_map="string"
    )
    assert found == (EMPTY, {})


def test_the_share_that_must_be_kept_is_a_setting_and_none_as_released(tokenizers, represented):
    share = (sum(SURE.values()) - LACKED) / sum(SURE.values())
    for chosen, kind in [
        ({"least_kept": share * 0.99}, TRANSFERRED),
        ({"least_kept": share * 1.01}, EMPTY),
        ({"least_kept": 0.0}, TRANSFERRED),
        ({"scheme": "em", "aligner": "byte_span", "reading": "released"}, TRANSFERRED),
        ({"scheme": "em", "aligner": "byte_span", "reading": "fixed"}, EMPTY),
    ]:
        found, kept = sure_of_what_the_pivot_lacks(tokenizers, represented, **chosen)
        assert found == kind
        if kind == TRANSFERRED:  # the lost mass is in the tail; what is left keeps its own
            assert kept == pytest.approx({piece: p for piece, p in SURE.items() if p != LACKED}, rel=1e-5)


def letters(*known: str) -> PreTrainedTokenizerFast:
    """A tokenizer of single letters; text with any other letter in it is unknown."""
    pieces = ["<unk>", "</s>", *known]
    backend = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=0))
    backend.add_special_tokens(["<unk>", "</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="</s>")


@pytest.mark.parametrize("scheme", ALIGNMENT_SCHEMES)
def test_a_source_that_expects_what_it_cannot_spell_does_not_teach_the_unknown_token(represented, scheme):
    ours, theirs = letters(" ", "a", "b"), letters(" ", "a")
    pivot, source = represented(ours, ["a a"]), represented(theirs, ["a a"])
    n = len(source.label_ids)
    for unknown, kind in ((0.8, EMPTY), (0.2, TRANSFERRED)):
        log_probs = np.tile(np.log(np.array([unknown, 1 - unknown], np.float32)), (n, 1))
        said = np.array([theirs.unk_token_id, theirs.convert_tokens_to_ids("a")], np.int32)
        top = TopK(ids=np.tile(said, (n, 1)), log_probs=log_probs, tail=np.full(n, -np.inf, np.float32))
        config = AlignConfig(scheme=scheme, reading="fixed")
        carried, decision = prepare(config, ours, theirs, (pivot, source)).transfer(pivot, source, top)
        assert (decision.kind == kind).all()
        assert ours.unk_token_id not in carried.ids
        np.testing.assert_allclose(np.exp(carried.tail), 1.0 if kind == EMPTY else unknown, rtol=1e-5)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), sum_collisions=st.booleans())
def test_made_to_sum_to_one_no_entry_has_more_than_the_kept_share_allows(seed, sum_collisions):
    generator = np.random.default_rng(seed)
    length, k, size = 8, 4, 12
    p = generator.dirichlet(np.full(k + 1, 0.4), length)
    source = TopK(
        ids=np.stack([generator.permutation(size)[:k] for _ in range(length)]).astype(np.int32),
        log_probs=np.log(p[:, :k]).astype(np.float32),
        tail=np.log(p[:, k]).astype(np.float32),
    )
    table = np.where(generator.random(size) < 0.5, NO_TOKEN, generator.integers(0, 5, size)).astype(np.int32)
    everywhere = Decision(
        kind=np.full(length, TRANSFERRED, np.uint8), source_position=np.arange(length, dtype=np.int32)
    )
    least = float(generator.uniform(0.1, 0.9))
    top, decision = project(
        source,
        everywhere,
        gold=np.zeros(length, np.int32),
        id_table=np.stack([table] * 3),
        border=np.zeros(length, np.int8),
        sum_collisions=sum_collisions,
        least_kept=least,
    )
    for i in range(length):
        mass: dict[int, float] = {}
        for token, probability in zip(table[source.ids[i]].tolist(), p[i, :k].tolist(), strict=True):
            mass[token] = mass.get(token, 0.0) + probability
        placed = sum(mass.values()) - mass.get(NO_TOKEN, 0.0)
        assert (decision.kind[i] == TRANSFERRED) == (placed > 0 and placed >= least * sum(mass.values()))
        taught = np.exp(top.log_probs[i].astype(np.float64))
        if decision.kind[i] == TRANSFERRED and sum_collisions:
            for token, probability in zip(top.ids[i].tolist(), (taught / taught.sum()).tolist(), strict=True):
                if token != NO_TOKEN:
                    assert probability <= mass[token] / sum(mass.values()) / least * (1 + 1e-5)
        if decision.kind[i] == EMPTY:
            assert (top.ids[i] == NO_TOKEN).all() and (taught == 0).all() and top.tail[i] == 0


# ------------------------------------------------------------------------------------------- rules by hand
class Tokens:
    """Rows whose inputs are the given ids: the label of a position is the next position's input."""

    def __init__(self, ids):
        self.label_ids = np.array([*ids, 0], np.int32)
        self.turn = np.zeros(len(ids) + 1, np.int16)
        self.start = self.end = np.arange(len(ids) + 1, dtype=np.int32)


def words(*pieces: str) -> Vocabulary:
    """ "<unk>" among them is the unknown token."""
    spelled = [None if piece == "<unk>" else piece.replace("▁", " ").encode() for piece in pieces]
    unknown = pieces.index("<unk>") if "<unk>" in pieces else None
    return Vocabulary(pieces=list(pieces), spelled=spelled, marker="▁", decode_drops_space=True, unknown=unknown)


def judged(rule, pivot: list[str], source: list[str], matched: list[list[int]], reading="paper", ids=None):
    """The decision for the tokens `pivot`, matched as given with the tokens `source` (counted from 0)."""
    spelling = "decoded" if reading == "released" else "canonical"
    pair = VocabularyPair(pivot=words(*pivot), source=words(*source), reading=reading, spelling=spelling)
    positions = [[0], *([j + 1 for j in row] for row in matched)]  # position 0 has the template in front of it
    matches = Matches(
        offset=np.cumsum([0, *map(len, positions)]), positions=np.array([j for r in positions for j in r], np.int32)
    )
    id_map = IdMap(ids=np.array(ids if ids is not None else [NO_TOKEN] * len(source), np.int32))
    decision = rule(pair, lambda: id_map)(matches, Tokens(range(len(pivot))), Tokens(range(len(source))))
    assert decision.kind[0] == TRANSFERRED and decision.source_position[0] == 0
    kinds = {TRANSFERRED: "transfer", ONE_HOT: "gold", EMPTY: "empty"}
    return [
        (kinds[k], j - 1) if k == TRANSFERRED else kinds[k]
        for k, j in zip(decision.kind[1:].tolist(), decision.source_position[1:].tolist(), strict=True)
    ]


def test_em_transfers_equal_single_tokens():
    found = judged(EqualToken, ["▁a", "b", "cd"], ["▁a", "x", "c", "d"], [[0], [1], [2, 3]])
    assert found == [("transfer", 0), "gold", "gold"]


def test_em_as_released_loses_tokens_that_begin_a_word():
    # decoded alone the pivot's piece is 'a'; a byte-level source would decode ' a', a SentencePiece one 'a' as well
    keeps_space = Vocabulary(pieces=["Ġa"], spelled=[b" a"], marker="Ġ", decode_drops_space=False)
    for reading, spelling, kind in (("paper", "canonical", TRANSFERRED), ("released", "decoded", ONE_HOT)):
        pair = VocabularyPair(pivot=words("▁a"), source=keeps_space, reading=reading, spelling=spelling)
        matches = Matches(offset=np.array([0, 1, 2]), positions=np.array([0, 1], np.int32))
        rule = EqualToken(pair, lambda: IdMap(ids=np.zeros(1, np.int32)))
        assert rule(matches, Tokens([0]), Tokens([0])).kind.tolist() == [TRANSFERRED, kind]


def test_mined_transfers_what_the_map_makes_equal():
    assert judged(MappedToken, ["cat", "dog"], ["cut", "cow"], [[0], [1]], ids=[0, 0]) == [("transfer", 0), "gold"]


def test_ms_lets_the_last_of_several_pivot_tokens_pass():
    assert judged(SuffixToken, ["▁wor", "ld"], ["▁world"], [[0], [0]]) == ["gold", ("transfer", 0)]


def test_ms_takes_the_first_source_token_that_ends_the_pivot_token():
    assert judged(SuffixToken, ["▁world"], ["▁wor", "▁ld"], [[0, 1]]) == [("transfer", 1)]


def test_ms_takes_the_last_of_the_tokens_that_spell_the_pivot_token():
    # no source token ends "▁a▁b" or is ended by it; without spaces x + ab + y hold a|b in order: "ab" spells it
    assert judged(SuffixToken, ["▁a▁b"], ["x", "a▁b▁", "y"], [[0, 1, 2]]) == [("transfer", 1)]
    # ab begins abcd, and nothing goes on from there
    assert judged(SuffixToken, ["abcd"], ["ab", "cx", "cy"], [[0, 1, 2]]) == ["gold"]


def test_ms_leaves_the_pivot_alone_where_the_joined_tokens_end_with_its_token():
    # ab + c▁d ends with bc▁d; alone neither does, since without its space cd is no end of bc▁d
    assert judged(SuffixToken, ["bc▁d"], ["ab", "c▁d"], [[0, 1]]) == ["empty"]
    assert judged(SuffixToken, ["bc▁d"], ["xy", "c▁d"], [[0, 1]]) == ["gold"]


@pytest.mark.parametrize("rule", [EqualToken, MappedToken, SuffixToken])
def test_unknown_tokens_are_equal_where_both_vocabularies_can_spell_the_same(rule):
    assert judged(rule, ["a", "<unk>"], ["a", "<unk>"], [[0], [1]]) == [("transfer", 0), ("transfer", 1)]
    assert judged(rule, ["a", "<unk>"], ["b", "<unk>"], [[0], [1]])[1] == "gold"


def test_ms_reads_no_text_in_the_name_of_an_unknown_token():
    # "<unk>" ends with ">" and with "k>", and begins with "<"
    assert judged(SuffixToken, [">"], ["<unk>", ">"], [[0]]) == ["gold"]
    assert judged(SuffixToken, ["k>"], ["<unk>", "x"], [[0, 1]]) == ["gold"]
    assert judged(SuffixToken, [">"], ["<unk>", ">"], [[0]], reading="released") == [("transfer", 0)]


def test_ms_spells_no_token_across_an_unknown_one():
    # a and b spell a|b| with x between, which the papers' rule passes over; an unknown token is text of its own
    assert judged(SuffixToken, ["a▁b▁"], ["a", "x", "b"], [[0, 1, 2]]) == [("transfer", 2)]
    assert judged(SuffixToken, ["a▁b▁"], ["a", "<unk>", "b"], [[0, 1, 2]]) == ["gold"]
    assert judged(SuffixToken, ["a▁b▁"], ["a", "b", "<unk>"], [[0, 1, 2]]) == [("transfer", 1)]


def test_ms_as_released_lets_an_empty_string_pass():
    # alone, the piece of one space decodes to nothing
    assert judged(SuffixToken, ["▁", "x"], ["y", "x"], [[0], [1]], reading="released") == [
        ("transfer", 0),
        ("transfer", 1),
    ]
    assert judged(SuffixToken, ["▁", "x"], ["y", "x"], [[0], [1]]) == ["gold", ("transfer", 1)]


# ------------------------------------------------------------------------------------------------- config
def test_every_scheme_has_its_config_and_the_other_way_round():
    from fusion.runtime.command import group_entry, group_names

    assert set(group_names("align")) == set(ALIGNMENT_SCHEMES)
    for name in ALIGNMENT_SCHEMES:
        config = typed(group_entry("align", name), AlignConfig, at="align")
        assert config == AlignConfig(scheme=name)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scheme": "byte_spam"}, "did you mean 'byte_span'"),
        ({"scheme": "em", "aligner": "token_dwt"}, "did you mean 'token_dtw'"),
        ({"scheme": "em", "vocabulary_map": "strings"}, "did you mean 'string'"),
        ({"scheme": "em", "reading": "papr"}, "did you mean 'paper'"),
        ({"scheme": "em", "least_kept": 1.5}, "least_kept is 1.5: expected a share from 0 to 1"),
        ({"scheme": "em", "least_kept": -0.1}, "least_kept is -0.1: expected a share from 0 to 1"),
    ],
)
def test_an_unknown_choice_is_refused_with_the_nearest(wrong, message):
    with pytest.raises(Refusal, match=message):
        typed(wrong, AlignConfig, at="align")
