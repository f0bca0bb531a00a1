"""Whether a target is of the pivot's kind: family, settings, tokenizer; checked before a weight is read."""

from __future__ import annotations

import re
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
# What each program that quantises leaves: names of parameters, keys of config.json, files beside it.
_QUANTISED = ("qweight", "qzeros", "g_idx", "weight_scale", "weight_scale_inv", "weight_packed", "absmax", "SCB", "W_q")
_QUANTISED_KEYS = ("quantization_config", "compression_config", "quantization")
_QUANTISED_FILES = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
# Settings by which weights are cut into parts: in models of other ones, equal entries are parts of other things.
_STRUCTURE = frozenset(
    "num_attention_heads num_key_value_heads head_dim n_head num_heads num_kv_heads multi_query_group_num"
    " qk_rope_head_dim qk_nope_head_dim v_head_dim".split()
)
# Settings that are off where a config does not have them, so that one config alone having them says something.
_OFF_WITHOUT = re.compile(r"rope|scaling|softcap|multiplier|sliding_window|logit_scale|qk_norm|alibi")
_OFF: tuple[object, ...] = (
    None,
    False,
    1,
    0,
    "default",
    "",
    [],
    10_000,
)  # the last is every family's rope_theta of old


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
    for key in sorted(our.keys() | their.keys()):
        if key not in our or key not in their:
            if _OFF_WITHOUT.search(key) is None or our.get(key, their.get(key)) in _OFF:
                continue
        elif our[key] == their[key]:
            continue
        said = f"{key} is {their.get(key, 'not set')} in {target} and {our.get(key, 'not set')} in the pivot"
        if key in our and key in their and key.rpartition(".")[2] in _STRUCTURE:
            raise Refusal(
                f"{said} {pivot}: their weights are cut into other parts, so equal places do not mean the same; only"
                " models of one structure can be merged. Where a config is wrong about its weights, mend it"
            )
        warnings.warn(f"{said}: the merged model has the pivot's", stacklevel=2)


def check_not_quantised(directory: Path, names: Collection[str]) -> None:
    """Refuse a checkpoint whose weights are not numbers but codes, by its config, its files or its parameters."""
    config = read_config(directory)
    levels = [config, *(inner for inner in config.values() if isinstance(inner, Mapping))]
    noted = next((level[key] for level in levels for key in _QUANTISED_KEYS if level.get(key)), None) or next(
        (noted_in(directory / file) for file in _QUANTISED_FILES if (directory / file).exists()), None
    )
    coded = next((name for name in names if name.rpartition(".")[2] in _QUANTISED), None)
    if not noted and coded is None:
        return
    method = noted.get("quant_method") if isinstance(noted, Mapping) else None
    seen = f"by {method}" if method else f"it holds {coded}" if coded else "its config or a file beside it says so"
    raise Refusal(
        f"{directory} is quantised ({seen}): its weights are codes, which have no mean. Merge the model it was made"
        " from, then quantise the result"
    )


def note_adapter_beside(directory: Path) -> None:
    """Say where a checkpoint holds an adapter besides its weights, which some programs would put on them."""
    if (directory / "adapter_config.json").exists():
        warnings.warn(
            f"{directory} holds an adapter beside its weights: the weights are merged as they are, and the adapter is"
            " left out; in a folder of its own it can be given as BASE_DIRECTORY+ADAPTER_DIRECTORY",
            stacklevel=2,
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
        if not ours and theirs:
            warnings.warn(
                f"the pivot {pivot} brings no tokenizer, and {target} one: the two were not compared, and the merged"
                " model has none",
                stacklevel=2,
            )
        elif ours and not ours.keys() & theirs.keys():
            why = "they are written in different ways" if theirs else f"{target} brings none"
            warnings.warn(
                f"the tokenizers of the pivot {pivot} and of {target} were not compared, since {why}: the merged model"
                " gets the pivot's",
                stacklevel=2,
            )


def _settings(config: Mapping[str, object], within: str = "") -> Iterator[tuple[str, object]]:
    """Each setting by its dotted path, where it can change what weights compute.

    Rotary ones as transformers 4 spells them, rope_theta beside rope_scaling; 5 has all in rope_parameters.
    """
    for key, value in config.items():
        path = f"{within}{key}"
        path = path.replace("rope_parameters.", "rope_scaling.").replace("rope_scaling.rope_theta", "rope_theta")
        path = path.replace("rope_scaling.type", "rope_scaling.rope_type")
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
        model = fast.get("model")
        if not isinstance(model, Mapping):
            raise Refusal(f"{directory / 'tokenizer.json'} has a model that is no object: copy the tokenizer again")
        found = {f"its {key}": fast.get(key) for key in ("added_tokens", "normalizer", "pre_tokenizer", "decoder")}
        found |= {"its vocabulary": model.get("vocab"), "its merges": _merges(model.get("merges") or (), directory)}
    elif (directory / "vocab.json").exists():
        found["its vocabulary"] = dict(noted_in(directory / "vocab.json"))
        if (directory / "merges.txt").exists():
            lines = read_text(directory / "merges.txt", expected="a tokenizer's merges").split("\n")
            merges = [line for line in lines if line and not line.startswith("#version")]
            found["its merges"] = _merges(merges, directory)
    elif (directory / "vocab.txt").exists():
        lines = read_text(directory / "vocab.txt", expected="a tokenizer's vocabulary").split("\n")
        found["its vocabulary"] = {line: number for number, line in enumerate(lines)}
    if not fast:
        if (directory / "added_tokens.json").exists():
            found["its added tokens"] = dict(noted_in(directory / "added_tokens.json"))
        added = noted_in(directory / "tokenizer_config.json").get("added_tokens_decoder")
        if isinstance(added, Mapping):
            contents = {
                id_: token.get("content") if isinstance(token, Mapping) else token for id_, token in added.items()
            }
            found["its added_tokens_decoder"] = contents
    for path in sorted({*directory.glob("*.model"), *directory.glob("*.tiktoken")}):
        found[path.name] = path.read_bytes()
    return found


def _merges(merges: object, directory: Path) -> list[list[str]]:
    """Merges are written as "a b" by older versions of tokenizers and as [a, b] by newer ones."""
    if not isinstance(merges, (list, tuple)) or not all(isinstance(merge, (str, list)) for merge in merges):
        raise Refusal(f"the merges of the tokenizer in {directory} are no list of pairs: copy the tokenizer again")
    return [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
