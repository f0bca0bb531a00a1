"""What of a server's settings is in the key of its answers: all that can change one, and nothing else."""

from __future__ import annotations

import dataclasses

import pytest

from eval.serve import VLLM, Automatic, ExistingEndpoint, Transformers

# Where and when a server runs, and how much memory it gets.
WITHOUT_EFFECT = {*"devices servers port start_timeout reload probe gpu_memory_utilization kv_cache_gb".split()}
OTHER = {
    "dtype": "float32", "max_model_len": 512, "max_num_seqs": 7, "max_num_batched_tokens": 99, "tensor_parallel": 2,
    "pipeline_parallel": 2, "data_parallel": 2, "devices": ("3",), "servers": 2, "gpu_memory_utilization": 0.5,
    "kv_cache_gb": 3, "enforce_eager": False, "logprobs_mode": "processed_logits", "threads": 5, "port": 8123,
    "start_timeout": 5.0, "reload": False, "probe": "none",
}  # fmt: skip


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(VLLM)])
def test_every_flag_of_vllm_that_can_change_an_answer_is_in_its_identity(name):
    changed = VLLM().identity() != VLLM(**{name: OTHER[name]}).identity()
    assert changed == (name not in WITHOUT_EFFECT)


@pytest.mark.parametrize(
    "other", [{"dtype": "bfloat16"}, {"max_model_len": 9}, {"batch_size": 3}, {"device": "cuda"}], ids=str
)
def test_every_setting_of_transformers_is_in_its_identity(other):
    assert Transformers().identity() != Transformers(**other).identity()


def test_what_is_left_open_stands_as_this_machine_settles_it():
    settled = VLLM().cpu_threads
    if settled is not None:
        assert VLLM().identity() == VLLM(threads=settled).identity()
    chosen, _ = Automatic().chosen()
    assert (Automatic().identity(), Automatic().modules) == (chosen.identity(), chosen.modules)


def test_an_endpoint_is_where_it_is_and_what_it_is_asked_for_and_not_the_name_of_its_key():
    own = ExistingEndpoint(base_url="http://a/v1", model="m", key_variable="KEY")
    assert own.identity() == ExistingEndpoint(base_url="http://a/v1", model="m", key_variable="OTHER").identity()
    assert own.identity() != ExistingEndpoint(base_url="http://b/v1", model="m").identity()
    assert own.identity() != ExistingEndpoint(base_url="http://a/v1", model="n").identity()
