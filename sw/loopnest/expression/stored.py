"""How an operand is stored for a kernel: its levels, in the order in which the loops walk them."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..formats.pack import COMPRESSED, spans
from .notation import Access


@dataclass(frozen=True)
class Stored:
    """An operand's levels: kind and index of each, outermost first."""

    access: Access
    levels: tuple[str, ...]
    indices: tuple[str, ...]
    sizes: tuple[int, ...]

    def level(self, index: str | None) -> int | None:
        """Return the level that stores ``index``, None if the operand does not have it."""
        return self.indices.index(index) if index in self.indices else None

    def step(self, level: int) -> int:
        """Return the step of the level's cell."""
        return spans(self.sizes, self.levels)[level + 1]

    def packed_level(self, level: int) -> int:
        """Return the level of the packed tensor that a compressed level is."""
        return level

    @property
    def start(self) -> int:
        """Position in front of the outermost level."""
        return 0

    @property
    def packing(self) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Levels and mode order of the packed tensor."""
        return self.levels, self.mode_order

    @property
    def mode_order(self) -> tuple[int, ...]:
        """The mode that each level stores."""
        return tuple(self.access.indices.index(i) for i in self.indices)

    def walks(self, loops: Sequence[str]) -> bool:
        """Return whether loops in this order can walk the levels: in the order of the levels,
        except that adjacent dense levels may be in any order.
        """
        # Deepest loop of the levels that have to be outside, and of all levels so far.
        outer = deepest = -1
        for kind, index in zip(self.levels, self.indices, strict=True):
            at = loops.index(index)
            if kind == COMPRESSED:
                outer = deepest
            if at < outer:
                return False
            deepest = max(deepest, at)
            if kind == COMPRESSED:
                outer = deepest
        return True
