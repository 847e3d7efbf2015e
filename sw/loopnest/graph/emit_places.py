"""Concatenation and padding: each part is written into its place in one tensor.

A part that a kernel computes for nothing else is written there by this kernel; one that only the
host has is in the tensor before the kernels write theirs; another one is copied.
"""

from collections.abc import Collection, Sequence
from itertools import accumulate
from math import prod

from loopnest_hw.config import COORDINATE_BITS

from ..epilogue import Epilogue
from ..nest.result import Part
from .builder import MAX_MODES
from .factors import TOO_LARGE
from .lower import Lowering
from .placement import COPIES, Placed
from .stages import MOVED, Stage
from .tensors import Scale
from .values import Value


def concat(lowering: Lowering, stage: Stage) -> str:
    """Add the items of a concatenation; return why that is not possible, otherwise nothing."""
    rank = len(stage.shape)
    axis = stage.attributes["axis"] % rank
    sizes = [lowering.shape(name)[axis] for name in stage.inputs]
    unit = lowering.sum_scale(stage.inputs)
    if lowering.too_large(stage.inputs, unit):
        return TOO_LARGE
    names = [lowering.term(name, unit) for name in stage.inputs]
    ends = accumulate(sizes, initial=0)
    firsts = [[end if a == axis else 0 for a in range(rank)] for end in ends][:-1]
    return _Places(lowering, stage, names, firsts, unit).join()


def pad(lowering: Lowering, stage: Stage) -> str:
    """Add the items of padding with zeros; return why that is not possible, otherwise nothing."""
    (name,) = stage.inputs
    if stage.attributes.get("value", 0) != 0:
        return "it pads with another number than 0"
    padding = stage.attributes["padding"]
    if any(before < 0 or after < 0 for before, after in padding):
        return "it cuts off what it does not pad"
    firsts = [[before for before, _ in padding]]
    return _Places(lowering, stage, [name], firsts, lowering.scale(name)).join()


class _Places:
    """The parts of a stage's result, the first elements of which are at these coordinates."""

    def __init__(
        self,
        lowering: Lowering,
        stage: Stage,
        names: list[str],
        firsts: Sequence[Sequence[int]],
        unit: Scale,
    ) -> None:
        self._lowering, self._stage, self._names, self._firsts = lowering, stage, names, firsts
        self._narrow = lowering.narrow(stage.result)
        self._unit = unit
        self._runs = self._find_runs()
        self._whole = tuple(prod(stage.shape[a] for a in run) for run in self._runs)

    def _find_runs(self) -> list[list[int]]:
        """Return the axes in groups that are one mode each: as a kernel stores a part that it may
        write into its place, otherwise as few as possible. Parts are whole along all axes of a
        group but its first one.
        """
        shape = self._stage.shape
        cut = {
            axis
            for axis, size in enumerate(shape)
            if any(self._lowering.shape(name)[axis] != size for name in self._names)
        }
        runs: list[list[int]] = []
        for axis in (axis for axis, size in enumerate(shape) if size != 1):
            if runs and axis not in cut and runs[-1][0] not in cut:
                runs[-1].append(axis)
            else:
                runs.append([axis])
        stored = (self._as_stored(name, cut) for name in self._names if self._movable(name))
        runs = next((found for found in stored if found is not None), runs)
        if any(prod(shape[axis] for axis in run) > 1 << COORDINATE_BITS for run in runs):
            runs = [[axis] for run in runs for axis in run]
        return runs

    def _as_stored(self, name: str, cut: Collection[int]) -> list[list[int]] | None:
        """Return the axes in groups as the modes in which a part is stored; None if they are not
        its.
        """
        own, runs = self._lowering.shape(name), []
        stored = list(self._stored(name))
        size = 1
        for axis in (axis for axis, size in enumerate(self._stage.shape) if size != 1):
            if size == 1:
                runs.append([axis])
            elif axis in cut:
                return None
            else:
                runs[-1].append(axis)
            size *= own[axis]
            if stored and size == stored[0] != 1:
                stored.pop(0)
                size = 1
        return runs if size == 1 and not stored else None

    def _stored(self, name: str) -> tuple[int, ...]:
        build = self._lowering.build
        return build.shape(self._lowering.on_chip(name).tensor)

    def join(self) -> str:
        """Add the items."""
        lowering, stage, build = self._lowering, self._stage, self._lowering.build
        if len(self._runs) > MAX_MODES:
            return f"its {len(self._runs)} modes are more than {MAX_MODES}"
        if lowering.integers:
            stage.in_steps(self._unit, lowering.scale(stage.result))
        epilogue = stage.epilogue(0, None, narrow=self._narrow)
        plain = epilogue is None or epilogue == Epilogue(out="narrow")
        of_host = [plain and self._of_host(name) for name in self._names]
        if all(of_host):
            return "the host has all of it"
        parts = [
            self._part(name, first) for name, first in zip(self._names, self._firsts, strict=True)
        ]
        base = None
        if any(of_host):
            known = [n for n, own in enumerate(of_host) if own]
            base = build.host(
                "place_parts",
                [self._for_host(self._names[n]) for n in known],
                self._whole,
                stage.result,
                {
                    "shape": list(self._whole),
                    "firsts": [list(parts[n].first) for n in known],
                    "sizes": [self._sizes(self._names[n]) for n in known],
                },
                wide=not self._narrow,
            )
        left = [n for n, own in enumerate(of_host) if not own]
        direct = sorted(
            (n for n in left if base is None and plain and self._is_direct(self._names[n])),
            key=lambda n: build.place_of(lowering.on_chip(self._names[n]).tensor),
        )
        for n in direct:
            tensor = lowering.on_chip(self._names[n]).tensor
            build.write_into(tensor, parts[n], base, self._whole, narrow=self._narrow)
            base = tensor
        copied = [n for n in left if n not in direct]
        for n in copied:
            base = self._copy(self._names[n], parts[n], base, epilogue)
        assert base is not None
        axes = tuple(axis for run in self._runs for axis in run)
        wide = not self._narrow
        lowering.define(stage.result, Value(tensor=base, shape=stage.shape, axes=axes, wide=wide))
        why = COPIES if copied else ""
        lowering.placed += [Placed(node, "chip", why, base) for node in stage.nodes]
        return ""

    def _sizes(self, name: str) -> list[int]:
        shape = self._lowering.shape(name)
        return [prod(shape[axis] for axis in run) for run in self._runs]

    def _part(self, name: str, first: Sequence[int]) -> Part:
        shape = self._stage.shape
        return Part(
            self._whole,
            tuple(first[run[0]] * prod(shape[a] for a in run[1:]) for run in self._runs),
            tuple(n for n, size in enumerate(self._sizes(name)) if size != 1),
        )

    def _copy(self, name: str, part: Part, base: str | None, epilogue: Epilogue | None) -> str:
        """Add the statement that copies a part into its place; return the tensor."""
        lowering = self._lowering
        if lowering.constant(name) is None and lowering.on_chip(name).repeats:
            lowering.copy(name)
        sizes: dict[str, int] = {}
        groups = [(f"i{n}", run) for n, run in enumerate(self._runs)]
        return lowering.build.add_statement(
            self._stage.result,
            [f"i{n}" for n in part.modes],
            lowering.access(name, groups, sizes),
            self._whole,
            epilogue=epilogue,
            sizes=sizes,
            part=part,
            base=base,
        )

    def _of_host(self, name: str) -> bool:
        """Return whether the host has a part, and no kernel."""
        lowering = self._lowering
        if lowering.constant(name) is not None:
            return True
        if lowering.integers:
            own = lowering.steps.get(name)
            return lowering.host_has(name) and (own is None or own.scale == self._unit)
        return name not in lowering.images and not lowering.build.computed(
            lowering.on_chip(name).tensor
        )

    def _for_host(self, name: str) -> str:
        """Return a part as kernels have its numbers."""
        lowering = self._lowering
        if not lowering.integers or lowering.constant(name) is not None:
            return lowering.plain(name)
        return lowering.integers_of(name, self._unit, narrow=self._narrow)

    def _movable(self, name: str) -> bool:
        """Return whether the kernel that computes a part may write it elsewhere: nothing else reads
        it.
        """
        lowering, graph = self._lowering, self._lowering.graph
        if name not in self._stage.inputs or self._names.count(name) > 1:
            return False
        if lowering.constant(name) is not None or name in lowering.images:
            return False
        if lowering.host_has(name):
            return False
        value = lowering.on_chip(name)
        names = lowering.names_of(value.tensor)
        for own in names:
            for node in lowering.uses.get(own, []):
                moved = node.operator in MOVED and node.result in names
                if not moved and node is not self._stage.head:
                    return False
        rounds = value.wide is self._narrow
        if set(names) & set(graph.outputs) or (rounds and (lowering.integers or not value.wide)):
            return False
        return value.plain and lowering.build.may_move(value.tensor)

    def _is_direct(self, name: str) -> bool:
        """Return whether the kernel that computes a part writes it into its place."""
        sizes = tuple(size for size in self._sizes(name) if size != 1)
        return self._movable(name) and self._stored(name) == sizes
