"""Data sets of the Hugging Face hub by name, read by its `datasets` library; a local folder that holds one, too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from fusion.runtime.configure import Refusal
from fusion.runtime.digests import content_key, file_digest, files_below

_COMMIT = re.compile(r"[0-9a-f]{40}")


def dataset_key(name: str, revision: str | None) -> str:
    """What a data set is by its content: the commit that a branch or tag of it points to now, of a folder its files.

    A commit given in full needs no network.  Raises Refusal when the hub does not tell.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return content_key([(str(path.relative_to(folder)), file_digest(path)) for path in files_below(folder)])
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi

    try:
        commit = HfApi().dataset_info(name, revision=revision).sha
    except Exception as error:  # the hub client raises a dozen types; all mean: not told
        raise Refusal(
            f"data.dataset {name} is neither a folder nor found on the hub ({_first_line(error)}): expected owner/name,"
            " so check the name, the network and HF_TOKEN; files are data.files. Offline, give the commit that was"
            " downloaded before as data.revision, or its files as data.files"
        ) from error
    return str(commit)


def dataset_rows(name: str, *, subset: str | None, split: str, revision: str | None) -> Iterator[tuple[str, object]]:
    """Each row's place and content.  Raises Refusal for a data set, subset or split that cannot be loaded."""
    try:
        import datasets
    except ImportError as error:
        raise Refusal(
            "data.dataset needs the library datasets: pip install datasets, or download the files and name them in"
            " data.files"
        ) from error
    folder = Path(name).expanduser()
    datasets.disable_progress_bars()
    try:
        if folder.is_dir():
            found = datasets.load_dataset(str(folder.resolve()), subset, split=split)
        else:
            found = datasets.load_dataset(name, subset, split=split, revision=dataset_key(name, revision))
    except Refusal:
        raise
    except Exception as error:  # of many kinds: not there, offline, no such subset or split, not readable
        raise Refusal(
            f"data.dataset {name} cannot be loaded with data.subset={subset} data.split={split} ({_first_line(error)})"
        ) from error
    for number, row in enumerate(found, start=1):
        yield f"row {number}", row


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
