"""The tensors of a graph as factors and terms: narrow or wide, and on an int8 chip with scales."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from .accesses import Accesses
from .graph import dense
from .scales import MAX_STEPS, quantized
from .stages import Stage
from .steps import NARROW_LOW
from .tensors import Scale

TOO_LARGE = "a term is far larger than what it is added to"

FINER = 64
"""Parts of a step in which a bias is rounded."""


class Factors(Accesses):
    """The tensors of a graph as what statements multiply and add."""

    def factor(
        self, name: str, axis: int | None = None, *, narrow: bool = False
    ) -> tuple[str, Scale]:
        """Return the factor of a product that a tensor of the graph is, and its scale; that of
        weights may vary along an axis. It is narrow on an int8 chip, but for steps and weights of
        a quantised model that int8 does not hold, or if that is said.
        """
        if self._scales is None:
            if narrow and self.constant(name) is None and self.on_chip(name).wide:
                self.copy(name, narrow=True)
            return name, 1.0
        if self.constant(name) is not None:
            integers, scale = self.weights(name, axis)
            found = self.derive(name, "steps" if axis is None else f"steps{axis}")
            self._constants[found] = integers
            if integers.dtype == np.int32:
                self._wide.add(found)
            return found, scale
        if name in self.steps:
            self.on_chip(name)
            return name, self.scale(name)
        wide = self._values[name].wide if name in self._values else not self.narrow(name)
        name = self._narrowed(name) if wide else name
        self.on_chip(name)
        return name, self.scale(name)

    def weights(self, name: str, axis: int | None) -> tuple[Any, Scale]:
        """Return a constant as the chip has it, and its scale, which may vary along an axis."""
        array = self.constant(name)
        return quantized(name, array, axis) if self.integers else (array, 1.0)

    def sum_scale(self, names: Sequence[str]) -> Scale:
        """Return the scale of a sum of tensors of the graph; 1 but on an int8 chip."""
        if self._scales is None:
            return 1.0
        variable = [name for name in names if self.constant(name) is None]
        self.calibrated.update(name for name in variable if name not in self.steps)
        return self._scales.common(variable, finer=len(variable) < len(names))

    def finer(self, stage: Stage) -> tuple[str, Scale]:
        """Return the scale of a tensor that a stage only reads, and what to put before it so that
        it has that scale: the steps of a quantised model are coarse for a bias.
        """
        unit = self.scale(stage.inputs[0])
        if stage.inputs[0] in self.steps and np.any(stage.bias):
            return f"{FINER} * ", unit / FINER
        return "", unit

    def too_large(self, names: Sequence[str], scale: Scale) -> bool:
        """Return whether terms of a sum are too different for an int8 chip's integers of this
        scale, as a mask of attention is from what it is added to.
        """
        if not self.integers:
            return False
        for name in names:
            array = self.constant(name)
            if name in self.steps:
                if self.steps[name].largest > MAX_STEPS * scale * (1 + 1e-9):
                    return True
            elif array is None and self.scale(name) != scale:
                return True
            if array is not None and np.max(np.abs(dense(array)), initial=0) > MAX_STEPS * scale:
                return True
        return False

    def term(self, name: str, scale: Scale) -> str:
        """Return the term of a sum that a tensor of the graph is, with this scale."""
        array = self.constant(name)
        if self._scales is None:
            return name
        if array is None:
            return name if self.scale(name) == scale else self._rescaled(name, scale)
        # another sum may have another scale
        found = self.derive(name, f"term{len(self._wide)}")
        self._wide.add(found)
        self._constants[found] = np.rint(dense(array) / scale).astype(np.int32)
        return found

    def _narrowed(self, name: str) -> str:
        """Return a tensor of an int8 chip as a narrow one of its own scale."""
        found = self.derive(name, "narrow")
        if found in self._values:
            return found
        self._seen[found] = self._seen[name]
        self._units[found] = self.narrow_scale(name)
        if name in self._reals:
            self._values[found] = self._in_steps(name, self.scale(found), narrow=True)
        else:
            self._values[found] = self.on_chip(name)
            self.copy(found, narrow=True, scale=self.scale(name) / self.scale(found))
        return found

    def _rescaled(self, name: str, scale: float) -> str:
        """Return a tensor with steps as a wide one of another scale."""
        found = self.derive(name, f"scale{scale}")
        if found not in self._values:
            self._seen[found], self._units[found] = self._seen[name], scale
            self._values[found] = self.on_chip(name)
            self.copy(found, scale=self.scale(name) / scale)
        return found

    def is_wide(self, name: str) -> bool:
        """Return whether a factor is wide."""
        return name in self._wide or (name in self._values and self._values[name].wide)

    def product(self, names: Sequence[str], access: Callable[[str, int], str]) -> str:
        """Return the product of two factors, with the access of each on its side. Where both are
        wide, the second one is a narrow tensor and a number: ``a * p + number * a``.
        """
        first, second = names
        if not (self.integers and self.is_wide(first) and self.is_wide(second)):
            return f"{access(first, 0)} * {access(second, 1)}"
        part, number = self.narrow_part(second)
        factor = access(first, 0)
        return f"{factor} * {access(part, 1)} - {-number} * {factor}"

    def narrow_part(self, name: str) -> tuple[str, int]:
        """Return a wide factor of a quantised model as a narrow tensor and a number that is to be
        added to it.
        """
        found = self.derive(name, "part")
        array = self.constant(name)
        low = self.steps[name].low if array is None else int(array.min(initial=0))
        number = low - NARROW_LOW
        if array is not None:
            self._constants[found] = (array - number).astype(np.int8)
        elif found not in self._values:
            self._seen[found], self._units[found] = self._seen[name], self.scale(name)
            self._values[found] = self.on_chip(name)
            self.copy(found, narrow=True, bias=-number)
        return found, number

    def wide_steps(self, name: str) -> bool:
        """Return whether int8 does not hold a tensor of a quantised model."""
        return name in self.steps and not self.steps[name].narrow

    def is_number(self, stage: Stage) -> bool:
        """Return whether a stage's result is one number of numbers, or of what only the host has as
        real ones.
        """
        return (
            self.integers
            and prod(stage.shape) == 1
            and all(
                prod(self.shape(name)) == 1 or self.host_has(name)
                for name in stage.inputs
                if self.constant(name) is None
            )
        )

    def too_coarse(self, names: Sequence[str]) -> str:
        """Return why an int8 chip cannot multiply tensors of a quantised model by others, or
        nothing.
        """
        if not any(map(self.wide_steps, names)) or all(name in self.steps for name in names):
            return ""
        known = [self.constant(name) for name in names]
        if any(array is not None and dense(array).size == 1 for array in known):
            return ""
        return "a factor besides the quantised one has no steps"

    def too_wide(self, names: Sequence[str], terms: int) -> str:
        """Return why an int8 chip cannot multiply two factors of a quantised model, and sum
        ``terms`` products, or nothing.
        """
        if not self.integers:
            return ""
        low, high = self._span(names[1])
        if high - low > 255 and all(map(self.is_wide, names)):
            return "it takes one factor that int8 does not hold"
        return self.overflow(names, terms)

    def overflow(self, names: Sequence[str], terms: int) -> str:
        """Return that sums of products of two factors may not fit int32, or nothing; a factor that
        is not named is of int8.
        """
        if not any(map(self.wide_steps, names)):
            return ""
        spans = [self._span(name) for name in names]
        largest = prod(max(-low, high) for low, high in spans) * (-NARROW_LOW) ** (2 - len(names))
        return f"sums of {terms} products may not fit int32" if largest * terms >= 1 << 31 else ""

    def _span(self, name: str) -> tuple[int, int]:
        """Return bounds of the integers of a factor."""
        array = self.constant(name)
        if array is not None:
            return int(dense(array).min(initial=0)), int(dense(array).max(initial=0))
        if name in self.steps:
            return self.steps[name].low, self.steps[name].high
        return NARROW_LOW, -NARROW_LOW - 1

    def one_wide(self, names: Sequence[str]) -> None:
        """Store all but one of the factors of a product narrow; `factor` stores all on int8."""
        if self.integers:
            return
        wide = [
            name
            for name in dict.fromkeys(names)
            if self.constant(name) is None and self.on_chip(name).wide
        ]
        twice = len(wide) == 1 and list(names).count(wide[0]) > 1
        for name in wide if twice else wide[1:]:
            self.copy(name, narrow=True)
