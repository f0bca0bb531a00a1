"""What a merge rule is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from fusion.merge.mergekit import InRecipes

if TYPE_CHECKING:
    from dataclasses import Field

    import torch
    from torch import Tensor

    from fusion.merge.parameter import Context


class MergeRule(Protocol):
    """fp32 tensors of one parameter in, one of the pivot's shape out; hyperparameters per target in their order."""

    __dataclass_fields__: ClassVar[dict[str, Field[object]]]
    in_recipes: ClassVar[InRecipes] = InRecipes()

    def __call__(
        self,
        pivot: Tensor,
        targets: Sequence[Tensor],
        *,
        generator: torch.Generator | None = None,
        context: Context | None = None,
    ) -> Tensor: ...
