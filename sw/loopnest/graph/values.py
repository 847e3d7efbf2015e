"""Where the tensors of a graph are: in which tensor of the program, and how their axes lie in it.

Reshaping, transposing, slicing and broadcasting change this description, and move nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod


@dataclass(frozen=True)
class Fixed:
    """A stored axis of which only the elements at one coordinate are seen; ``size`` is stored."""

    at: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Value:
    """A tensor of a graph as a view of a tensor of the program.

    Axes of size 1 are stored nowhere.

    Attributes
    ----------
    tensor : str
        Of the program.
    shape : tuple of int
        Of the graph's tensor.
    axes : tuple of int or Fixed
        The axes that are stored, in the order in which they are, the last one innermost; a larger
        axis that is missing repeats what is stored.
    cuts : mapping of int to (int, int, int)
        Of axes that show a part of what is stored: the first coordinate, the step between
        coordinates, and the size stored.
    wide : bool
        Whether its values are fp32 or int32.
    """

    tensor: str
    shape: tuple[int, ...]
    axes: tuple[int | Fixed, ...]
    cuts: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)
    wide: bool = True

    @classmethod
    def whole(cls, tensor: str, shape: Sequence[int], *, wide: bool = True) -> "Value":
        """Return all of a tensor, in the order of its modes."""
        axes = tuple(axis for axis, size in enumerate(shape) if size != 1)
        return cls(tensor=tensor, shape=tuple(shape), axes=axes, wide=wide)

    @property
    def plain(self) -> bool:
        """Whether it is the whole program's tensor, in the order of its modes."""
        return not self.cuts and self.axes == Value.whole(self.tensor, self.shape).axes

    @property
    def repeats(self) -> bool:
        """Whether an element stands for several."""
        return any(s != 1 and axis not in self.axes for axis, s in enumerate(self.shape))

    def stored(self, axis: int) -> int:
        """Return the stored size of an axis."""
        return self.cuts[axis][2] if axis in self.cuts else self.shape[axis]

    def transposed(self, axes: Sequence[int]) -> "Value":
        """Return the tensor with its axes in another order (`numpy.transpose`)."""
        new = {old: axis for axis, old in enumerate(axes)}
        return replace(
            self,
            shape=tuple(self.shape[axis] for axis in axes),
            axes=tuple(a if isinstance(a, Fixed) else new[a] for a in self.axes),
            cuts={new[axis]: cut for axis, cut in self.cuts.items()},
        )

    def broadcast(self, shape: Sequence[int]) -> "Value":
        """Return the tensor repeated (`numpy.broadcast_to`)."""
        first = len(shape) - len(self.shape)
        return replace(
            self,
            shape=tuple(shape),
            axes=tuple(a if isinstance(a, Fixed) else a + first for a in self.axes),
            cuts={axis + first: cut for axis, cut in self.cuts.items()},
        )

    def cut(self, axis: int, start: int, stop: int, step: int) -> "Value":
        """Return a slice of an axis, whose bounds are within it."""
        size = len(range(start, stop, step))
        shape = tuple(size if a == axis else s for a, s in enumerate(self.shape))
        if axis not in self.axes:
            return replace(self, shape=shape)
        first, each, of = self.cuts.get(axis, (0, 1, self.shape[axis]))
        cuts = {**self.cuts, axis: (first + start * each, each * step, of)}
        axes = self.axes
        if size == 1:
            fixed = Fixed(first + start * each, of)
            axes = tuple(fixed if a == axis else a for a in axes)
        if size == 1 or cuts[axis] == (0, 1, size):
            del cuts[axis]
        return replace(self, shape=shape, axes=axes, cuts=cuts)

    def reshaped(self, shape: Sequence[int]) -> "Value | None":
        """Return the tensor in another shape; None if what is stored has to be moved for it."""
        axes = self.axes
        cuts: dict[int, tuple[int, int, int]] = {}
        places: dict[int, list[int]] = {}
        for old, new in blocks(self.shape, shape):
            there = [axis for axis in old if axis in axes]
            if not there:
                continue
            if len(old) == len(new) == 1:
                places[old[0]] = new
                if old[0] in self.cuts:
                    cuts[new[0]] = self.cuts[old[0]]
                continue
            at = axes.index(old[0]) if old[0] in axes else 0
            if list(axes[at : at + len(old)]) != old or any(axis in self.cuts for axis in old):
                return None
            places[old[0]] = new
            places |= {axis: [] for axis in old[1:]}
        moved: list[int | Fixed] = []
        for axis in axes:
            moved += [axis] if isinstance(axis, Fixed) else places[axis]
        return replace(self, shape=tuple(shape), axes=tuple(moved), cuts=cuts)

    def grouped(self, groups: Sequence[Sequence[int]]) -> "list[int | Fixed] | None":
        """Return the numbers of groups of axes in the order in which they are stored, those that
        are not stored left out; None if a group is not stored as one axis.
        """
        order: list[int | Fixed] = []
        at = 0
        while at < len(self.axes):
            axis = self.axes[at]
            if isinstance(axis, Fixed):
                order.append(axis)
                at += 1
                continue
            number = next(n for n, group in enumerate(groups) if axis in group)
            group = [a for a in groups[number] if self.shape[a] != 1]
            if list(self.axes[at : at + len(group)]) != group:
                return None
            if len(group) > 1 and any(a in self.cuts for a in group):
                return None
            order.append(number)
            at += len(group)
        return order


@dataclass(frozen=True)
class Place:
    """The coordinate of a mode, of this size, in an access: ``step * index + first``."""

    size: int
    index: str | None
    first: int
    step: int = 1

    def __str__(self) -> str:
        if self.index is None:
            return str(self.first)
        place = f"{self.step}*{self.index}" if self.step != 1 else self.index
        return f"{place}+{self.first}" if self.first else place

    def joined(self, inner: "Place") -> "Place":
        """Return that of this mode and the one below it as one mode; one of them has no index."""
        first = self.first * inner.size + inner.first
        step = inner.step if self.index is None else self.step * inner.size
        return Place(self.size * inner.size, self.index or inner.index, first, step)


def blocks(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Return the smallest groups of axes of one shape that are groups of another one; axes of size
    1 are left out.
    """
    first = [axis for axis, size in enumerate(old) if size != 1]
    second = [axis for axis, size in enumerate(new) if size != 1]
    found = []
    while first or second:
        one, two = [first.pop(0)], [second.pop(0)]
        while (a := prod(old[axis] for axis in one)) != (b := prod(new[axis] for axis in two)):
            (one if a < b else two).append((first if a < b else second).pop(0))
        found.append((one, two))
    return found
