"""Models that several threads load at once are all whole, and so are those loaded afterwards."""

from concurrent.futures import ThreadPoolExecutor

from transformers import PreTrainedModel

from eval.serve import probe
from eval.serve.generation import Generator


def test_models_loaded_side_by_side_leave_the_tying_of_weights_on(make_checkpoint):
    checkpoint = make_checkpoint(5)
    tying = PreTrainedModel.tie_weights
    with ThreadPoolExecutor(max_workers=4) as threads:
        served = [
            threads.submit(Generator.load, checkpoint, dtype="float32", device="cpu", longest=None) for _ in range(8)
        ]
        probed = [threads.submit(probe.expectation, checkpoint, longest=32) for _ in range(8)]
        for loading in served:
            loading.result()
    assert len({loading.result() for loading in probed}) == 1
    assert PreTrainedModel.tie_weights is tying
