"""A model that somebody gives, by name, path or hub name, and the Hugging Face directory it becomes.

A model is on the hub (`path: owner/name`) or in a local directory (`path: ./dir`).  Commands name an entry of
conf/model, which says so, or give the path or the hub's name as it is.  Models of the hub may lie in a folder of this
disk already, which `paths.models` names.  Only safetensors weights are taken; remote code
is refused unless `trust_remote_code` is set.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from fusion.runtime.command import group_entry, group_names
from fusion.runtime.configure import Refusal, nearest, typed
from fusion.runtime.digests import directory_key, files_below
from fusion.runtime.places import settings_file, settings_names
from fusion.runtime.reading import read_object, read_text
from fusion.runtime.templates.pinned import DATE, own_template, pinned

G = TypeVar("G", bound="GivenModel")

# What is fetched of a model on the hub: its words alone, or all that it computes with.
TOKENIZER = ("*.json", "*.model", "*.jinja", "*.txt", "*.tiktoken")
_HANDOVER = ("*.safetensors", *TOKENIZER)
# Where an architecture has another name than the family that it was first made for.
_FAMILIES = {"mixtral": "mistral"}


@dataclass(frozen=True, kw_only=True)
class GivenModel:
    """One entry of conf/model."""

    label: str  # names the model in tables as a source (`source-<label>`) and its target (`target-<label>`)
    path: str | None = None
    revision: str | None = None
    # Replaces the checkpoint's own: a name in conf/template, or a Jinja file.  FuseChat renders every source in the
    # pivot's format, so its sources carry one.
    chat_template: str | None = None
    # Settings of the chat template, such as enable_thinking, and the day that it takes for today where it writes the
    # date.  Both are written into the template, so what is trained, merged and served has them too.
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    template_date: str = DATE
    trust_remote_code: bool = False
    family: str | None = None  # whose weights it descends from, for the warning before a judge of the same family
    parameters: float | None = None  # how many it has, for a plan made without the weights
    active_parameters: float | None = None  # of a mixture of experts, how many a token meets


def named_models(
    names: Sequence[str], mounted: Mapping[str, Any], kind: type[G], *, folder: str | None = None
) -> dict[str, G]:
    """What each name stands for: what is `mounted` under it, else an entry of conf/model, else the directory or the
    model of the hub that it spells.  The last are labelled by the end of their path, as far as tells them apart.
    Models of the hub that lie in `folder` are taken from there (`kept_in`).

    Raises Refusal for a name that is none of them, for two that lead to one model, and for a folder that is not there.
    """
    entries = group_names("model")
    found: dict[str, G] = {}
    spelt = []
    for name in dict.fromkeys(names):
        if name in mounted or name in entries:
            found[name] = typed(mounted.get(name) or group_entry("model", name), kind, at=f"model.{name}")
        elif "/" in name or name.startswith((".", "~")) or Path(name).is_dir():
            spelt.append(name)
        else:
            raise Refusal(
                f"model '{name}' is not in conf/model: {nearest(name, entries)}; a directory is given as ./DIR, a model"
                " of the hub as OWNER/NAME"
            )
    for name, label in _labels(spelt, {model.label for model in found.values()}).items():
        found[name] = kind(label=label, path=name)
    for name in spelt:
        for other in found:
            if other != name and _place(found[other].path) == _place(name):
                raise Refusal(
                    f"{name} and {other} are one model: fusing a model with itself teaches nothing; leave one out"
                )
    return {name: kept_in(folder, found[name]) for name in names}


def kept_in(folder: str | None, model: G) -> G:
    """The model, of the hub, as it lies in `folder`: as OWNER/NAME, NAME, or NAME in small letters; else as it is.

    Raises Refusal for a folder that is not there.
    """
    if folder is None or model.path is None or on_disk(model.path):
        return model
    place = Path(folder).expanduser().absolute()
    if not place.is_dir():
        raise Refusal(f"paths.models (FUSECHAT_LAB_MODELS) is {folder}: there is no such folder")
    name = model.path.rpartition("/")[2]
    for spelt in (model.path, name, name.lower()):
        if (place / spelt).is_dir():
            return replace(model, path=str(place / spelt), revision=None)
    return model


def given_model(name: str, mounted: Mapping[str, Any], *, folder: str | None = None) -> GivenModel:
    """One model by name, path or hub name, as `named_models` takes them.

    Raises Refusal also for an entry of conf/model that says no path.
    """
    entry = mounted.get(name) or (group_entry("model", name) if name in group_names("model") else {})
    if entry and entry.get("path") is None:
        raise Refusal(
            f"model '{name}' lies nowhere: experiments train it. Give the directory of one that was trained, which the"
            " cell.json of its report names"
        )
    return named_models([name], mounted, GivenModel, folder=folder)[name]


def _labels(spelt: Sequence[str], taken: Collection[str]) -> dict[str, str]:
    """For each path or hub name its last parts, as many as no other shares, in characters that file names take."""
    ends = {}
    for name in spelt:
        whole = Path(os.path.abspath(Path(name).expanduser())) if on_disk(name) else Path(name)
        parts = [re.sub(r"[^\w.-]+", "-", part) for part in whole.parts if part != whole.anchor]
        ends[name] = ["-".join(parts[-depth:]) for depth in range(1, len(parts) + 1)] or ["model"]
    return {
        name: next(
            (end for end in own if end not in taken and sum(end in others for others in ends.values()) == 1), own[-1]
        )
        for name, own in ends.items()
    }


def on_disk(path: str) -> bool:
    """Whether a path means a directory, be it there or not: the hub's names are OWNER/NAME."""
    return path.startswith((".", "/", "~")) or path.count("/") > 1 or Path(path).is_dir()


def _place(path: str | None) -> str | None:
    return str(Path(path).expanduser().resolve()) if path is not None and on_disk(path) else path


def checkpoint_directory(config: GivenModel) -> Path:
    """The local directory of a model that lies on the hub or on disk.

    Raises Refusal when there is none, when it has no safetensors weights, or when it needs code of its own.
    """
    directory = directory_of(config, _HANDOVER)
    settings = directory / "config.json"
    if not settings.exists():
        raise Refusal(f"model '{config.label}': {directory} has no config.json: expected a Hugging Face checkpoint")
    if not any(directory.glob("*.safetensors")):
        raise Refusal(
            f"model '{config.label}': {directory} has no .safetensors weights. Pickled weights can run code and are not"
            " read: convert them with transformers' save_pretrained first"
        )
    noted = read_object(settings, expected=f"that of a Hugging Face checkpoint (model '{config.label}')")
    if "auto_map" in noted and not config.trust_remote_code:
        raise Refusal(
            f"model '{config.label}': {directory} brings Python code of its own; read it, then set"
            " trust_remote_code: true in its conf/model entry"
        )
    return directory


def directory_of(config: GivenModel, wanted: Sequence[str]) -> Path:
    """The local directory of a model, whatever is in it; of one on the hub, with the files of the `wanted` patterns.

    Raises Refusal when there is none.
    """
    assert config.path is not None
    directory = Path(config.path).expanduser()
    if directory.is_dir():
        return directory
    if on_disk(config.path):
        raise Refusal(f"model '{config.label}': there is no directory {config.path}")
    return _from_hub(config, wanted)


def family_of(config: GivenModel) -> str | None:
    """Whose weights a model descends from: what its entry says, else what its files are named after, where they are on
    this disk.  None where neither tells."""
    if config.family is not None or config.path is None:
        return config.family
    directory = on_this_disk(config)
    return None if directory is None else family_in(directory)


def family_in(directory: Path) -> str | None:
    """The family that a checkpoint's architecture is named after: its model_type up to the version (qwen2_moe: qwen).

    That is whose design it is.  Weights of the same design may have been trained by others.
    """
    try:
        kind = read_object(directory / "config.json", expected="a checkpoint's settings").get("model_type")
    except Refusal:
        return None
    found = re.match(r"[a-z]+(?:_[a-z]{2,})*", kind) if isinstance(kind, str) else None
    return _FAMILIES.get(found[0], found[0]) if found else None


def located(config: GivenModel, root: Path) -> tuple[Path, str]:
    """The directory of a model that lies on the hub or on disk, with its template put on in `root`, and the key of its
    files.  Raises Refusal where `checkpoint_directory` and `with_template` do.
    """
    directory = with_template(config, checkpoint_directory(config), root)
    return directory, directory_key(directory, root / "digests.json")


def with_template(config: GivenModel, directory: Path, root: Path) -> Path:
    """The model's `directory`, or one in `root` that is dressed in the template and the template's settings that the
    config chooses.  Raises Refusal when the template is not there, or for a setting that it cannot be given.
    """
    file = template_file(config)
    own = own_template(directory)
    template = own if file is None else read_text(file, expected="a chat template")
    if template is None:
        if config.chat_template_kwargs:
            raise Refusal(f"model '{config.label}': {directory} has no chat template to take chat_template_kwargs")
        return directory
    try:
        text = pinned(template, settings=config.chat_template_kwargs, date=config.template_date)
    except ValueError as error:
        raise Refusal(f"model '{config.label}': {error}") from error
    return directory if file is None and text == own else dressed(directory, text, root)


def template_file(config: GivenModel) -> Path | None:
    """The Jinja file that replaces the checkpoint's chat template, if any.  Raises Refusal when it is not there."""
    if config.chat_template is None:
        return None
    named = settings_file(f"template/{config.chat_template}.jinja")
    given = Path(config.chat_template).expanduser()
    if named is not None:
        return named
    if given.is_file():
        return given
    names = settings_names("template", ".jinja")
    raise Refusal(
        f"model '{config.label}': chat_template {config.chat_template!r} is neither a Jinja file nor in conf/template:"
        f" {nearest(config.chat_template, names)}"
    )


def dressed(directory: Path, text: str, root: Path) -> Path:
    """A directory of links to the files of `directory`, with `text` as its chat template; made once in `root`.

    It is another one as soon as files come, go or are replaced by others (a model that was written in other shards).
    """
    files = {str(path.relative_to(directory)): path.resolve() for path in files_below(directory)}
    files.pop("chat_template.jinja", None)
    name = hashlib.sha256(f"{directory.resolve()}\n{sorted(files.items())}\n{text}".encode()).hexdigest()[:20]
    final = root / "dressed" / name
    if not final.exists():
        final.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=final.parent, prefix=".draft-"))
        for inner, path in files.items():
            (draft / inner).parent.mkdir(parents=True, exist_ok=True)
            (draft / inner).symlink_to(path)
        (draft / "chat_template.jinja").write_text(text, encoding="utf-8")
        try:
            draft.rename(final)
        except OSError:  # another process made it first
            shutil.rmtree(draft)
    return final


def on_this_disk(config: GivenModel) -> Path | None:
    """The model's directory, or the hub's cached copy of it; None when it would have to be fetched."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    directory = Path(str(config.path)).expanduser()
    if on_disk(str(config.path)):
        return directory
    try:
        return Path(snapshot_download(str(config.path), revision=config.revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def hub_problem(config: GivenModel) -> str | None:
    """Why the hub does not give the model to this user, asked without fetching it; None where it does."""
    from huggingface_hub import HfApi

    try:
        HfApi().auth_check(str(config.path))
        HfApi().model_info(str(config.path), revision=config.revision, timeout=30)
    except Exception as error:  # as in `_from_hub`
        return _not_on_the_hub(config, error)
    return None


def _from_hub(config: GivenModel, wanted: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(config.path), revision=config.revision, allow_patterns=list(wanted)))
    except Exception as error:  # the hub client raises a dozen types; all mean: not available
        raise Refusal(_not_on_the_hub(config, error)) from error


def _not_on_the_hub(config: GivenModel, error: Exception) -> str:
    said = next(iter(str(error).splitlines()), "")
    return (
        f"model '{config.label}': {config.path} is neither a directory nor available from the hub"
        f" ({type(error).__name__}: {said}). Give a local directory as path, or check the name, the"
        " network and HF_TOKEN"
    )
