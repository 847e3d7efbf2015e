"""The functions on bits, for every value of a few widths: `unary`."""

from collections.abc import Callable
from typing import Any

import pytest
from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.sim import Simulator

from loopnest_hw import unary

MOST = 3
"""Limits of the counts."""


def ones(value: int) -> int:
    """Return how many bits are set."""
    return value.bit_count()


CASES: dict[str, tuple[Callable[[Module, Value], Any], Callable[[int, int], int]]] = {
    "lowest_bit": (unary.lowest_bit, lambda v, w: v & -v),
    "lowest_two": (
        lambda m, v: Cat(unary.lowest_two(m, v)),
        lambda v, w: (v & -v) | ((v & v - 1) & -(v & v - 1)) << w,
    ),
    "highest_bit": (unary.highest_bit, lambda v, w: 1 << v.bit_length() >> 1),
    "some_of": (
        lambda m, v: Cat(unary.some_of(m, v, MOST)),
        lambda v, w: sum(1 << n for n in range(MOST) if ones(v) > n),
    ),
    "number": (
        lambda m, v: unary.number(unary.lowest_bit(m, v), (len(v) - 1).bit_length()),
        lambda v, w: max((v & -v).bit_length() - 1, 0),
    ),
    "lowest": (lambda m, v: unary.lowest(v), lambda v, w: v & -v),
    "below": (
        lambda m, v: unary.below(unary.lowest(v)),
        lambda v, w: ((v & -v) - 1) & (1 << w) - 1,
    ),
    "one_of": (
        lambda m, v: unary.one_of((bit, Const(n + 3, 6)) for n, bit in enumerate(unary.lowest(v))),
        lambda v, w: (v & -v).bit_length() + 2 if v else 0,
    ),
    "at_least": (
        lambda m, v: Cat(unary.at_least(m, "v", v, MOST)),
        lambda v, w: sum(
            (2 << min(ones(v & (1 << lane) - 1), MOST)) - 1 << lane * (MOST + 1)
            for lane in range(w + 1)
        ),
    ),
}
"""Circuit and reference function, each of a value and its width."""


@pytest.mark.parametrize("width", [1, 2, 5, 8])
@pytest.mark.parametrize("name", CASES)
def test_every_value(name: str, width: int) -> None:
    """Each function on each value."""
    circuit, function = CASES[name]
    m = Module()
    value = Signal(width)
    result = Value.cast(circuit(m, value))
    wrong = []

    async def look(context: Any) -> None:
        for v in range(1 << width):
            context.set(value, v)
            await context.delay(1e-9)
            if context.get(result) != function(v, width):
                wrong.append((v, context.get(result), function(v, width)))

    simulator = Simulator(m)
    simulator.add_testbench(look)
    simulator.run()
    assert not wrong
