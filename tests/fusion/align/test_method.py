"""The first word of a turn, whose space one tokenizer counts to the template and the other to the turn."""

import numpy as np
import pytest

from fusion.align import TRANSFERRED, AlignConfig, method
from fusion.align.method import PreparedMethod
from fusion.conversations.vocabulary import vocabulary
from fusion.distribution import NO_TOKEN


def id_of(tokenizer, spelled: str) -> int:
    """The id of the token that stands for exactly this text, NO_TOKEN for none."""
    known = vocabulary(tokenizer, end_of_turn=tokenizer.eos_token_id).spelled
    return known.index(spelled.encode()) if spelled.encode() in known else NO_TOKEN


# The metaspace tokenizer spells a turn's first word with a space that is not in the turn, the byte-level one without.
@pytest.mark.parametrize(
    ("pivot", "source", "at_the_border", "within"),
    [("unigram", "coarse", " {}", "{}"), ("coarse", "unigram", "{}", " {}")],
)
def test_a_turns_first_word_is_carried_with_the_pivots_space_and_a_later_one_with_its_own(
    pivot, source, at_the_border, within, tokenizers, represented
):
    ours, theirs = (represented(tokenizers[name], ["the cat sat on the mat"]) for name in (pivot, source))
    ready = PreparedMethod(
        method(AlignConfig(scheme="byte_span")),
        *(vocabulary(tokenizers[n], end_of_turn=tokenizers[n].eos_token_id) for n in (pivot, source)),
        list,
    )
    # At every position the source is sure of one token: "the" as it spells it at the beginning of a turn.
    said = int(theirs.label_ids[0])
    top = theirs.top
    ids = np.full_like(top.ids, NO_TOKEN)
    ids[:, 0] = said
    log_probs = np.full_like(top.log_probs, -np.inf)
    log_probs[:, 0] = 0.0
    sure = type(top)(ids=ids, log_probs=log_probs, tail=np.full_like(top.tail, -np.inf))
    carried, decision = ready.transfer(ours, theirs, sure)

    expected = id_of(tokenizers[pivot], at_the_border.format("the"))
    assert expected != NO_TOKEN and expected == ours.label_ids[0]
    assert decision.kind[0] == TRANSFERRED and carried.ids[0, 0] == expected
    # Past the beginning both spell the space themselves, so the same source token stands for itself, or for nothing.
    later = [i for i in range(1, len(ours.label_ids) - 1) if decision.source_position[i] > 0]
    assert later
    assert {int(i) for i in carried.ids[later, 0]} == {id_of(tokenizers[pivot], within.format("the"))}
