"""What tests of every room share: where published files lie, and which tests this machine can run."""

import os
import subprocess
from pathlib import Path

import pytest

from fusion.processes import processor_settings, thread_settings

ROOT = Path(__file__).parent.parent

# Set before any test imports torch: spinning thread pools slow a small machine down tenfold.  Nothing may download.
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
for _name, _value in {**thread_settings(1), **processor_settings(), **_OFFLINE}.items():
    os.environ.setdefault(_name, _value)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of official benchmark files and tokenizers; the test is skipped where there is none."""
    named = os.environ.get("FUSECHAT_LAB_DATA")
    root = Path(named) if named else ROOT / "data"
    if not root.is_dir():
        pytest.skip(
            f"no published benchmark files in {root}: python -m fusion.benchmark_data fetches them, or name their"
            " folder in FUSECHAT_LAB_DATA"
        )
    return root


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped where no NVIDIA GPU answers."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not _has_gpu():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU: nvidia-smi lists none here"))


def _has_gpu() -> bool:
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    return listed.startswith("GPU")
