"""Published tensors and ours: one list of rules, read in both directions.

"Ours" are the names of the module tree in memory: ``model.vision_tower.*``, ``model.multi_modal_projector.*``,
``model.language_model.*`` and ``lm_head.*``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol

from edgereverie.backbones._checkpoint import Stored

if TYPE_CHECKING:
    import torch

Shape = tuple[int, ...]


class Change(Protocol):
    """What happens to a tensor between its published form and ours; ``join`` undoes ``split`` to the byte."""

    def shapes(self, shape: Shape) -> tuple[Shape, ...]:
        """The shapes of our tensors, from the published one's. ValueError when it does not fit."""
        ...

    def split(self, tensor: torch.Tensor) -> Sequence[torch.Tensor]: ...
    def join(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor: ...


@dataclass(frozen=True, slots=True)
class SplitRows:
    """A fused linear becomes ``parts`` linears of equal height."""

    parts: int

    def shapes(self, shape: Shape) -> tuple[Shape, ...]:
        if shape[0] % self.parts:
            raise ValueError(f"{shape[0]} rows are not {self.parts} equal parts")
        return ((shape[0] // self.parts, *shape[1:]),) * self.parts

    def split(self, tensor: torch.Tensor) -> Sequence[torch.Tensor]:
        return tensor.chunk(self.parts)

    def join(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        import torch

        return torch.cat(list(tensors))


@dataclass(frozen=True, slots=True)
class PadRows:
    """Rows for tokens that the published vocabulary lacks: ``published`` rows become ``ours``.

    A new row is the mean of the old ones, so that in lm_head its token is as likely as the average one: nearly never.
    """

    published: int
    ours: int

    def shapes(self, shape: Shape) -> tuple[Shape, ...]:
        if shape[0] != self.published:
            raise ValueError(f"{shape[0]:,} rows, where config.json says {self.published:,} (vocab_size)")
        return ((self.ours, *shape[1:]),)

    def split(self, tensor: torch.Tensor) -> Sequence[torch.Tensor]:
        import torch

        mean = tensor.float().mean(0, keepdim=True).to(tensor.dtype)
        return (torch.cat([tensor, mean.expand(self.ours - self.published, *tensor.shape[1:])]),)

    def join(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        return tensors[0][: self.published].contiguous()


@dataclass(frozen=True, slots=True)
class Rule:
    """Names of one form. In a name ``{n}`` stands for a number, ``{rest}`` for anything, the same on both sides; a second
    number is ``{m}``. ours: one name, or as many as ``change`` splits into.

    >>> rule = Rule("model.mm_projector.0.{rest}", "model.multi_modal_projector.linear_1.{rest}")
    >>> rule.to_ours("model.mm_projector.0.bias")
    ('model.multi_modal_projector.linear_1.bias',)
    """

    published: str
    ours: str | tuple[str, ...]
    change: Change | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.ours,) if isinstance(self.ours, str) else self.ours

    def to_ours(self, name: str) -> tuple[str, ...] | None:
        """Our names for a published one, or None when the rule does not know it."""
        found = _pattern(self.published).fullmatch(name)
        return None if found is None else tuple(target.format(**found.groupdict()) for target in self.targets)

    def to_published(self, name: str) -> tuple[str, int] | None:
        """The published name for one of ours, and which of its parts that is."""
        for index, target in enumerate(self.targets):
            if (found := _pattern(target).fullmatch(name)) is not None:
                return self.published.format(**found.groupdict()), index
        return None


@cache
def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", template)
    wild = {"rest": ".+"}
    return re.compile(
        "".join(
            re.escape(part) if index % 2 == 0 else f"(?P<{part}>{wild.get(part, '[0-9]+')})"
            for index, part in enumerate(parts)
        )
    )


@dataclass(frozen=True, slots=True)
class KeyMap:
    """A bijection between published tensors and ours: the first rule that knows a name decides."""

    rules: tuple[Rule, ...]

    def to_ours(self, name: str) -> tuple[str, ...]:
        """Our names for a published one; empty when no rule knows it."""
        return next((ours for rule in self.rules if (ours := rule.to_ours(name)) is not None), ())

    def ours(self, published: Mapping[str, Stored]) -> tuple[dict[str, Stored], dict[str, Stored]]:
        """(our tensors, published tensors that no rule knows). Nothing is read.

        Raises ValueError, with the published name, for a shape that a rule's change does not fit.
        """
        ours: dict[str, Stored] = {}
        unknown: dict[str, Stored] = {}
        for name, tensor in published.items():
            for rule in self.rules:
                if (targets := rule.to_ours(name)) is None:
                    continue
                if rule.change is None:
                    ours[targets[0]] = tensor
                    break
                try:
                    shapes = rule.change.shapes(tensor.shape)
                except ValueError as error:
                    raise ValueError(f"{tensor.file}: {name} has {error}") from None
                for index, (target, shape) in enumerate(zip(targets, shapes, strict=True)):
                    ours[target] = tensor.reshaped(shape, _Part(rule.change, index))
                break
            else:
                unknown[name] = tensor
        return ours, unknown

    def published(self, ours: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Our tensors as they are published. KeyError for a name that no rule knows, or a part that is missing."""
        out: dict[str, torch.Tensor] = {}
        parts: dict[str, tuple[Rule, dict[int, torch.Tensor]]] = {}
        for name, tensor in ours.items():
            for rule in self.rules:
                if (found := rule.to_published(name)) is not None:
                    parts.setdefault(found[0], (rule, {}))[1][found[1]] = tensor
                    break
            else:
                raise KeyError(name)
        for name, (rule, tensors) in parts.items():
            ordered = [tensors[index] for index in range(len(rule.targets))]
            out[name] = ordered[0] if rule.change is None else rule.change.join(ordered)
        return out


@dataclass(frozen=True, slots=True)
class _Part:
    """One of the tensors that a change makes of a published one."""

    change: Change
    index: int

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.change.split(tensor)[self.index]
