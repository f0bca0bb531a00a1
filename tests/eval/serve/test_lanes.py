"""Several GPUs: which server sits on which of them, who is asked side by side, and what each server is started with."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.serve import VLLM, Automatic, ExistingEndpoint, Transformers, machine, vllm_server
from eval.serve.lanes import plan
from eval.serve.machine import unavailable, visible_gpus
from eval.serve.vllm_server import flags, variables
from fusion.runtime.configure import Refusal, typed
from fusion.runtime.versions import listed_gpus

EIGHT = tuple("01234567")


@pytest.mark.parametrize(
    ("gpus", "settings", "places"),
    [
        ("0", VLLM(), [("0",)]),
        ("012", VLLM(), [("0",), ("1",), ("2",)]),
        ("0123", VLLM(tensor_parallel=2), [("0", "1"), ("2", "3")]),
        ("01234", VLLM(tensor_parallel=2), [("0", "1"), ("2", "3")]),  # the fifth stays idle
        (EIGHT, VLLM(tensor_parallel=2, pipeline_parallel=2), [tuple("0123"), tuple("4567")]),
        (EIGHT, VLLM(tensor_parallel=2, pipeline_parallel=2, data_parallel=2), [EIGHT]),
        (EIGHT, VLLM(servers=3), [("0",), ("1",), ("2",)]),
        (EIGHT, VLLM(servers=3, tensor_parallel=4), [tuple("0123"), tuple("4567")]),
        (EIGHT, VLLM(port=8000), [("0",)]),  # two servers cannot share a port
        (("GPU-5f", "GPU-a0"), VLLM(), [("GPU-5f",), ("GPU-a0",)]),
    ],
)
def test_each_server_has_its_own_gpus(gpus, settings, places):
    assert [one.devices for one in settings.side_by_side(tuple(gpus))] == places


def test_too_few_gpus_are_refused_with_the_arithmetic():
    with pytest.raises(Refusal, match=r"takes 4 GPUs \(tensor_parallel 2 x pipeline_parallel 1 x data_parallel 2\)"):
        VLLM(tensor_parallel=2, data_parallel=2).side_by_side(("0", "1"))
    with pytest.raises(Refusal, match="devices are 0, 1: expected at least 4"):
        typed({"devices": [0, 1], "tensor_parallel": 4}, VLLM, at="serve")


@pytest.mark.parametrize(
    ("sizes", "gpus", "pieces"),
    [
        ([8], 4, [2, 2, 2, 2]),
        ([3], 8, [1, 1, 1]),
        ([2, 1], 2, [2, 1]),
        ([7], 2, [4, 3]),
        ([10, 1], 2, [5, 5, 1]),  # whole groups would keep one server busy with 10
        ([9, 1, 1, 1], 4, [3, 3, 3, 1, 1, 1]),  # a pivot's architecture and three sources: three candidates a server
        ([3, 3, 3], 1, [3, 3, 3]),  # one server: no group is cut, for a cut costs a start
    ],
)
def test_groups_are_cut_so_that_every_server_has_its_share(sizes, gpus, pieces):
    groups = [[f"{name}{i}" for i in range(size)] for name, size in zip("abcd", sizes)]
    found = plan(groups, VLLM(), lanes=1, gpus=EIGHT[:gpus])
    assert [len(piece) for piece in found.pieces] == pieces
    assert len(found.settings) == gpus
    assert [settings.devices for settings in found.settings] == [(name,) for name in EIGHT[:gpus]]


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    gpus=st.integers(1, 8),
    tensor=st.integers(1, 3),
)
def test_nobody_is_lost_asked_twice_or_mixed_with_another_architecture(sizes, gpus, tensor):
    groups = [[(name, i) for i in range(size)] for name, size in enumerate(sizes)]
    settings = VLLM(tensor_parallel=min(tensor, gpus))
    found = plan(groups, settings, lanes=1, gpus=EIGHT[:gpus])
    assert sorted(one for piece in found.pieces for one in piece) == [one for group in groups for one in group]
    assert all(len({name for name, _ in piece}) == 1 for piece in found.pieces)
    share = -(-sum(sizes) // len(found.settings))
    assert all(0 < len(piece) <= share for piece in found.pieces)
    used = [name for one in found.settings for name in one.devices]
    assert len(used) == len(set(used)) <= gpus


@pytest.mark.parametrize("serve", [VLLM(), Automatic(), Transformers()])
def test_without_gpus_as_many_groups_are_asked_at_once_as_there_are_lanes_and_none_is_cut(serve):
    found = plan([["b"], ["a1", "a2", "a3"]], serve, lanes=2, gpus=())
    assert found.pieces == (("a1", "a2", "a3"), ("b",))
    assert found.settings == (serve, serve)


@pytest.mark.parametrize("serve", [VLLM(port=8000), ExistingEndpoint(base_url="http://x", model="m")])
def test_what_has_one_address_is_not_shared_out_among_lanes(serve):
    assert plan([["b"], ["a"]], serve, lanes=2, gpus=()).settings == (serve,)


def test_only_vllm_is_spread_over_gpus():
    assert len(plan([["a", "b"]], Transformers(), lanes=1, gpus=EIGHT).settings) == 1


def test_the_named_devices_are_the_ones_used():
    found = plan([["a", "b"]], VLLM(devices=(2, 5)), lanes=1, gpus=EIGHT)
    assert [settings.devices for settings in found.settings] == [("2",), ("5",)]


@pytest.mark.skipif(unavailable() is not None, reason="auto comes down to transformers here")
def test_auto_is_spread_over_gpus_as_vllm_is():
    found = plan([["a", "b"]], Automatic(dtype="float32", servers=2), lanes=1, gpus=EIGHT)
    assert found.settings == (
        VLLM(dtype="float32", servers=2, devices=("0",)),
        VLLM(dtype="float32", servers=2, devices=("1",)),
    )


def test_a_server_is_started_with_its_sizes_and_sees_its_own_gpus_only(monkeypatch):
    monkeypatch.setattr(vllm_server, "on_cpu", lambda: False)
    settings = VLLM(tensor_parallel=2, pipeline_parallel=3, data_parallel=4, gpu_memory_utilization=0.7)
    line = flags(settings, Path("/x"), 5000)
    sizes = {
        "--tensor-parallel-size": "2",
        "--pipeline-parallel-size": "3",
        "--data-parallel-size": "4",
        "--gpu-memory-utilization": "0.7",
    }
    assert {flag: line[line.index(flag) + 1] for flag in sizes} == sizes
    assert "CUDA_VISIBLE_DEVICES" not in variables(settings)
    (_, second) = plan([["a", "b"]], VLLM(tensor_parallel=2), lanes=1, gpus=("4", "5", "6", "7")).settings
    assert variables(second)["CUDA_VISIBLE_DEVICES"] == "6,7"
    assert not {"TORCH_COMPILE_DISABLE", "OMP_NUM_THREADS"} & set(variables(second))
    assert "--kv-cache-memory-bytes" not in flags(second, Path("/x"), 5000)


def test_every_copy_of_a_data_parallel_model_must_prove_itself(tmp_path):
    copies = vllm_server.VLLMServer(settings=VLLM(data_parallel=3), log=tmp_path / "log", say=print)
    single = vllm_server.VLLMServer(settings=VLLM(tensor_parallel=2), log=tmp_path / "log", say=print)
    assert list(copies._replicas()) == [0, 1, 2]
    assert list(single._replicas()) == [None]


def test_the_visible_gpus_are_those_the_scheduler_granted_or_the_driver_lists(monkeypatch):
    monkeypatch.setattr(machine, "on_cpu", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-5f")
    assert visible_gpus() == ("3", "GPU-5f")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == ()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    listed = (
        "GPU 0: NVIDIA H200 (UUID: GPU-1)\n  MIG 1g.18gb Device 0: (UUID: MIG-2)\nGPU 1: NVIDIA H200 (UUID: GPU-3)\n"
    )
    monkeypatch.setattr(
        subprocess, "run", lambda command, **kwargs: subprocess.CompletedProcess(command, 0, stdout=listed)
    )
    assert visible_gpus() == ("0", "1")
    assert listed_gpus() == ("NVIDIA H200", "NVIDIA H200")


def test_a_cpu_build_sees_no_gpu(monkeypatch):
    monkeypatch.setattr(machine, "on_cpu", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert visible_gpus() == ()
