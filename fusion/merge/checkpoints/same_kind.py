"""Whether a target is of the pivot's kind: family, settings, tokenizer; checked before a weight is read."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from fusion.merge.checkpoints.checkpoint_files import noted_in, read_config
from fusion.runtime.configure import Refusal
from fusion.runtime.reading import read_text

# Settings that change nothing about what given weights compute, or that a merge looks after by itself.
_WITHOUT_EFFECT = frozenset(
    "_name_or_path _attn_implementation architectures auto_map bos_token_id dtype eos_token_id id2label"
    " initializer_factor initializer_range keys_to_ignore_at_inference label2id model_type pad_token_id problem_type"
    " pretraining_tp quantization_config tie_word_embeddings torch_dtype torchscript transformers_version"
    " unsloth_version unsloth_fixed use_cache vocab_size".split()
)
_ONLY_IN_TRAINING = ("dropout", "_pdrop", "aux_loss", "output_", "return_", "router_jitter", "z_loss")
# transformers 4 and 5 write the same under different names: 4 rope_theta beside rope_scaling, 5 all in rope_parameters.
_ROPE = ("rope_parameters.", "rope_scaling.")
_QUANTISED = ("qweight", "qzeros", "g_idx", "weight_scale", "weight_scale_inv", "weight_packed", "absmax", "SCB")


def check_kind(pivot: Path, target: Path) -> None:
    """Refuse a target of another model family; note settings that make equal weights compute something else."""
    ours, theirs = read_config(pivot), read_config(target)
    if not ours or not theirs:
        return
    if ours.get("model_type") != theirs.get("model_type"):
        raise Refusal(
            f"{target} is a {theirs.get('model_type')} model and the pivot {pivot} a {ours.get('model_type')}: only"
            " models of one structure can be merged; fuse across structures with python -m fusion"
        )
    our, their = dict(_settings(ours)), dict(_settings(theirs))
    for key in our.keys() & their.keys():
        if our[key] != their[key]:
            warnings.warn(
                f"{key} is {their[key]} in {target} and {our[key]} in the pivot: the merged model has the pivot's",
                stacklevel=2,
            )


def check_not_quantised(directory: Path, names: Collection[str]) -> None:
    """Refuse a checkpoint whose weights are not numbers but codes, by its config, its files or its parameters."""
    config = read_config(directory)
    noted = config.get("quantization_config") or noted_in(directory / "quantize_config.json")
    coded = next((name for name in names if name.rpartition(".")[2] in _QUANTISED), None)
    if not noted and coded is None:
        return
    method = noted.get("quant_method") if isinstance(noted, Mapping) else None
    seen = f"by {method}" if method else f"it holds {coded}" if coded else "its config says so"
    raise Refusal(
        f"{directory} is quantised ({seen}): its weights are codes, which have no mean. Merge the model it was made"
        " from, then quantise the result"
    )


def check_tokenizers(pivot: Path, targets: Sequence[Path]) -> None:
    """Refuse targets whose tokenizer assigns other ids than the pivot's; note those that cannot be compared."""
    ours = _tokenizer(pivot)
    for target in targets:
        theirs = _tokenizer(target)
        for part in ours.keys() & theirs.keys():
            if ours[part] != theirs[part]:
                raise Refusal(
                    f"the tokenizers of {target} and the pivot {pivot} differ in {part}: their embedding rows mean"
                    " different tokens. Merge targets trained from this pivot, or set tokenizer: pivot if you know that"
                    " the ids agree"
                )
        if ours and not ours.keys() & theirs.keys():
            why = "they are written in different ways" if theirs else f"{target} brings none"
            warnings.warn(
                f"the tokenizers of the pivot {pivot} and of {target} were not compared, since {why}: the merged model"
                " gets the pivot's",
                stacklevel=2,
            )


def _settings(config: Mapping[str, object], within: str = "") -> Iterator[tuple[str, object]]:
    """Each setting by its dotted path, where it can change what weights compute; rotary ones as transformers 4 does."""
    for key, value in config.items():
        path = f"{within}{key}"
        for old in _ROPE:
            path = path.replace(old, "")
        name = path.rpartition(".")[2]
        if isinstance(value, Mapping) and key not in _WITHOUT_EFFECT:
            yield from _settings(value, f"{path}.")
        elif name not in _WITHOUT_EFFECT and not any(part in name for part in _ONLY_IN_TRAINING) and value is not None:
            yield path, value


def _tokenizer(directory: Path) -> dict[str, object]:
    """The parts of a tokenizer that decide ids, from whatever files it has; truncation and padding do not."""
    found: dict[str, object] = {}
    fast = noted_in(directory / "tokenizer.json")
    if fast:
        model = fast.get("model") or {}
        if not isinstance(model, Mapping):
            raise Refusal(f"{directory / 'tokenizer.json'} has a model that is no object: copy the tokenizer again")
        found = {f"its {key}": fast.get(key) for key in ("added_tokens", "normalizer", "pre_tokenizer", "decoder")}
        found |= {"its vocabulary": model.get("vocab"), "its merges": _merges(model.get("merges") or (), directory)}
    elif (directory / "vocab.json").exists():
        found["its vocabulary"] = dict(noted_in(directory / "vocab.json"))
        if (directory / "merges.txt").exists():
            lines = read_text(directory / "merges.txt", expected="a tokenizer's merges").splitlines()
            merges = [line for line in lines if line and not line.startswith("#version")]
            found["its merges"] = _merges(merges, directory)
    elif (directory / "vocab.txt").exists():
        lines = read_text(directory / "vocab.txt", expected="a tokenizer's vocabulary").splitlines()
        found["its vocabulary"] = {line: number for number, line in enumerate(lines)}
    if not fast and (directory / "added_tokens.json").exists():
        found["its added tokens"] = dict(noted_in(directory / "added_tokens.json"))
    for name in ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model"):
        if (directory / name).exists():
            found[name] = (directory / name).read_bytes()
    return found


def _merges(merges: object, directory: Path) -> list[list[str]]:
    """Merges are written as "a b" by older versions of tokenizers and as [a, b] by newer ones."""
    if not isinstance(merges, (list, tuple)) or not all(isinstance(merge, (str, list)) for merge in merges):
        raise Refusal(f"the merges of the tokenizer in {directory} are no list of pairs: copy the tokenizer again")
    return [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
