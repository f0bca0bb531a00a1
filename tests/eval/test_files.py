"""Identifiers as tables and JSON tools hand them back."""

import pytest

from eval.files import identifier


@pytest.mark.parametrize("value", [81, 81.0, "81"])
def test_a_question_is_one_however_its_number_is_typed(value):
    assert identifier(value) == "81"


@pytest.mark.parametrize("value", [81.5, float("nan"), None, True, [81]])
def test_what_is_no_identifier_is_said(value):
    with pytest.raises(ValueError, match="no identifier"):
        identifier(value)
