"""The rules read from fastchat's source are those of the module imported whole."""

import subprocess
import sys

import pytest

from eval.benchmarks.fastchat.rules import NEEDED, fastchat_common


def test_every_rule_we_use_is_there():
    rules = fastchat_common()
    assert {name for name in NEEDED if not hasattr(rules, name)} == set()
    assert rules.temperature_config["math"] == 0.0


def test_reading_the_rules_imports_no_model_library():
    script = (
        "import sys; from eval.benchmarks.fastchat.rules import fastchat_common; fastchat_common();"
        "print([name for name in ('torch', 'transformers', 'openai', 'anthropic') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


@pytest.mark.slow
def test_the_rules_equal_those_of_the_module_imported_whole(tmp_path):
    pytest.importorskip("fastchat")
    whole = pytest.importorskip("fastchat.llm_judge.common", reason="its judge calls' own imports are not installed")
    rules = fastchat_common()
    for name in ("NEED_REF_CATS", "temperature_config", "one_score_pattern", "one_score_pattern_backup"):
        assert getattr(rules, name) == getattr(whole, name)
    for name in ("load_questions", "load_judge_prompts", "load_model_answers"):
        assert getattr(rules, name).__code__.co_code == getattr(whole, name).__code__.co_code
