"""From hidden states to the loss without ever holding the logits of all positions.

At a vocabulary of 152,000 the logits of 4,096 positions are 2.5 GB, and the dense loss holds them several times over.
Here a few rows at a time go through the head: their logits, the loss, and at once the gradients of the hidden states
and of the head's weights, so that nothing as wide as the vocabulary outlives its rows.  The matrix products are those
of the dense loss, three for each row, none is computed twice; sums over rows are taken in fp32.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, Int
    from transformers import PretrainedConfig, PreTrainedModel

# fp32 logits that are held at once: 220 rows of a vocabulary of 152,000.
CHUNK_BYTES = 2**27

# Of some rows' logits, and which rows they are: the loss to be minimised, and sums to be reported.
RowLosses = Callable[["Float32[Tensor, 'C V']", slice], tuple["Float32[Tensor, '']", "Float32[Tensor, ' S']"]]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a model does to the products of hidden states and weights: `cap * tanh(scale * z / cap)`."""

    scale: float = 1.0
    cap: float | None = None

    def __call__(self, products: Float32[Tensor, "C V"]) -> Float32[Tensor, "C V"]:
        """The logits."""
        scaled = products if self.scale == 1 else products * self.scale
        return scaled if self.cap is None else self.cap * torch.tanh(scaled / self.cap)


def shape_of(config: PretrainedConfig) -> Shape:
    """What the model says of itself: `final_logit_softcapping` (Gemma), `logits_scaling` (Granite, a divisor),
    `logit_scale` (Cohere) and `lm_head_multiplier` (Falcon-H1)."""
    said = config.get_text_config()
    scale = float(getattr(said, "logit_scale", None) or 1.0)
    scale *= float(getattr(said, "lm_head_multiplier", None) or 1.0)
    scale /= float(getattr(said, "logits_scaling", None) or 1.0)
    return Shape(scale=scale, cap=getattr(said, "final_logit_softcapping", None))


def last_hidden(
    model: PreTrainedModel, input_ids: Int[Tensor, "B T"], position_ids: Int[Tensor, "B T"] | None = None
) -> Float[Tensor, "B T D"]:
    """What the head is given at every position.  Where `position_ids` start again, another conversation starts."""
    packed = {} if position_ids is None else {"position_ids": position_ids}
    hidden: Tensor = model.get_decoder()(input_ids=input_ids, use_cache=False, **packed).last_hidden_state
    return hidden


@torch.no_grad()
def has_plain_head(model: PreTrainedModel, input_ids: Int[Tensor, " T"]) -> bool:
    """Whether the logits that `model` computes are those of `shape_of` over its output embeddings.

    Some architectures do more, which no setting tells; so it is tried on the tokens of one conversation.
    """
    head = model.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        return False
    tried = input_ids[None, :_TRIED].to(head.weight.device)
    expected = model(input_ids=tried, use_cache=False).logits[0].float()
    found = shape_of(model.config)(head(last_hidden(model, tried)[0]).float())
    if found.shape != expected.shape:
        return False
    return bool((found - expected).abs().max() <= _TOLERANCE[head.weight.dtype] * expected.abs().max())


@torch.no_grad()
def keeps_apart(model: PreTrainedModel, one: Int[Tensor, " S"], other: Int[Tensor, " T"]) -> bool:
    """Whether the second of two conversations in one row is to `model` what it is by itself; recurrent layers carry
    the first one on."""
    device = model.get_input_embeddings().weight.device
    one, other = (ids[:_TRIED].to(device) for ids in (one, other))
    together = torch.cat([one, other])[None]
    positions = torch.cat([torch.arange(len(ids), device=device) for ids in (one, other)])[None]
    alone = last_hidden(model, other[None])[0].float()
    found = last_hidden(model, together, positions)[0, len(one) :].float()
    return bool((found - alone).abs().max() <= _APART[model.dtype] * alone.abs().max())


_TRIED = 16  # tokens
# Of the largest value.  Two readings of one head see the same hidden states; other rows are summed in another order.
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2**-7}
_APART = {torch.float32: 1e-4, torch.bfloat16: 2**-4}


def summed_losses(
    hidden: Float[Tensor, "N D"],
    head: torch.nn.Linear,
    losses: RowLosses,
    *,
    rows: int | None = None,
) -> tuple[Float32[Tensor, ""], Float32[Tensor, " S"]]:
    """Both results of `losses`, summed over all rows; gradients flow from the first into `hidden` and `head`.

    `losses` is called with the products of `rows` rows at a time (None: as many as CHUNK_BYTES hold), and may give each
    row no more than its own loss.
    """
    rows = rows or max(1, CHUNK_BYTES // (4 * head.weight.shape[0]))
    found: tuple[Tensor, Tensor] = _Chunked.apply(hidden, head.weight, head.bias, losses, rows)  # type: ignore[no-untyped-call]
    return found


class _Chunked(torch.autograd.Function):
    """The gradients are computed on the way forward, while the logits are there; backward multiplies and hands out."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, losses: RowLosses, rows: int
    ) -> tuple[Tensor, Tensor]:
        device = hidden.device.type
        autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        inputs, weights = hidden.detach().to(autocast), weight.detach().to(autocast)
        offset = None if bias is None else bias.detach().to(autocast)
        wanted = ctx.needs_input_grad[:3]
        to_hidden = torch.empty_like(inputs)
        to_weight: Tensor | None = None
        to_bias = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)
        total, sums = hidden.new_zeros((), dtype=torch.float32), hidden.new_zeros(0, dtype=torch.float32)
        with torch.autocast(device, enabled=False):
            for start in range(0, max(1, len(inputs)), rows):  # of no rows the sums are zeros
                part = slice(start, min(start + rows, len(inputs)))
                with torch.set_grad_enabled(any(wanted)):
                    products = functional.linear(inputs[part], weights, offset).float().requires_grad_(any(wanted))
                    loss, said = losses(products, part)
                total, sums = total + loss.detach(), said.detach() + (sums if len(sums) else 0)
                if not any(wanted):
                    continue
                (slope,) = torch.autograd.grad(loss, products)
                del products, loss
                slope = slope.to(autocast)
                torch.mm(slope, weights, out=to_hidden[part])
                to_weight = _added(to_weight, slope, inputs[part])
                if to_bias is not None:
                    to_bias += slope.sum(0, dtype=torch.float32)
        ctx.mark_non_differentiable(sums)
        ctx.gradients = (to_hidden.to(hidden.dtype), _like(to_weight, weight), _like(to_bias, bias))
        return total, sums

    @staticmethod
    def backward(ctx: Any, to_total: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        found, ctx.gradients = ctx.gradients, None
        return (*(None if one is None else one.mul_(to_total) for one in found), None, None)


def _added(sum_before: Tensor | None, slope: Tensor, inputs: Tensor) -> Tensor:
    """The gradient of the weights with that of further rows, in fp32."""
    if slope.dtype != torch.float32:
        product = (slope.T @ inputs).float()
        return product if sum_before is None else sum_before.add_(product)
    return slope.T @ inputs if sum_before is None else sum_before.addmm_(slope.T, inputs)


def _like(gradient: Tensor | None, parameter: Tensor | None) -> Tensor | None:
    return None if gradient is None or parameter is None else gradient.to(parameter.dtype)


def returns_losses(model: PreTrainedModel, input_ids: Int[Tensor, " T"]) -> bool:
    """Make `model(input_ids=..., places=..., losses=...)` return what `summed_losses` does of the labels predicted at
    `places` [N] of the B * T positions; True where that never takes the logits of more than a chunk.

    It is done in the model's own forward, since whatever shards or copies a model over processes works inside its call;
    without `losses` that is what it was.  A micro-batch whose logits are no more than a chunk needs none.  `input_ids`
    are tokens to try the model on (`has_plain_head`).
    """
    own, plain = model.forward, has_plain_head(model, input_ids)
    width = 4 * model.get_output_embeddings().weight.shape[0] if plain else 0

    @wraps(own)
    def forward(*arguments: Any, losses: RowLosses | None = None, **named: Any) -> Any:
        if losses is None:
            return own(*arguments, **named)
        if plain and named["input_ids"].numel() * width > CHUNK_BYTES:
            return _by_chunks(model, losses=losses, **named)
        return _by_logits(own, losses=losses, **named)

    model.forward = forward
    return plain


def _by_chunks(
    model: PreTrainedModel,
    *,
    input_ids: Tensor,
    places: Tensor,
    losses: RowLosses,
    position_ids: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    hidden = last_hidden(model, input_ids, position_ids).flatten(0, 1).index_select(0, places)
    shape = shape_of(model.config)
    head = model.get_output_embeddings()
    return summed_losses(hidden, head, lambda products, rows: losses(shape(products), rows))


def _by_logits(
    forward: Callable[..., Any], *, places: Tensor, losses: RowLosses, **inputs: Tensor
) -> tuple[Tensor, Tensor]:
    length = inputs["input_ids"].shape[1]
    columns, rank = torch.unique(places % length, return_inverse=True)
    narrow = "logits_to_keep" in inspect.signature(forward).parameters
    logits = forward(**inputs, use_cache=False, **({"logits_to_keep": columns} if narrow else {})).logits
    kept = logits[places // length, rank if narrow else places % length].float()
    total, sums = losses(kept, slice(0, len(places)))
    return total, sums.detach()
