"""What the cache reads ahead: it saves cycles, and changes nothing else."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Chip, Memory
from loopnest.kernel.lower import Kernel
from loopnest_hw.descriptor import PREFETCHES, descriptor_lines
from loopnest_hw.registers import ErrorCode
from tests.rtl.chips import SEVERAL, TWO_PORTS, Bits, Pair, altered, on, simulator
from tests.rtl.test_errors import check_next, error_of

ONE = "shrunk/int8/cache=1/memory_ports=2"
FAR = Memory(latency=50, fill=0xA5)
NOTHING = {f"prefetch.{n}.lines": 0 for n in range(PREFETCHES)}
ELSEWHERE = 1 << 30
"""An address at which nothing is."""


def operands() -> dict[str, Any]:
    rng = np.random.default_rng(2)
    array = rng.integers(1, 6, (40, 40)) * (rng.random((40, 40)) < 0.3)
    return {"A": sp.csr_array(array), "x": rng.integers(1, 6, 40)}


def cycles_of(chip: Chip) -> int:
    report = chip.report
    assert report is not None and report.cycles is not None
    return report.cycles


@on(SEVERAL, TWO_PORTS, ONE)
@pytest.mark.parametrize("statement", ["y[i] = A[i,j] * x[j]", "C[i,j] = A[i,j] * A[i,j]"])
def test_it_saves_latencies(pair: Pair, statement: str) -> None:
    """Those of the position, the block and the value overlap."""
    used = {name: value for name, value in operands().items() if f"{name}[" in statement}
    got = pair.run(statement, memory=FAR, **used)
    ahead = cycles_of(pair.chip(FAR))
    with altered(lambda _: dict(NOTHING)):
        assert Bits(pair.chip(FAR).compute(statement, **used)) == Bits(got)
    # how many depends on the reads that may be outstanding, here four
    assert ahead < cycles_of(pair.chip(FAR))


@on(SEVERAL, TWO_PORTS, ONE)
def test_lines_of_the_result(pair: Pair) -> None:
    """They would be out of date in the cache, so the descriptor is refused."""

    def over(kernel: Kernel) -> dict[str, int]:
        return NOTHING | {
            "prefetch.1.address": kernel.fields["result.values_end"] - 1,
            "prefetch.1.lines": 1,
        }

    with altered(over):
        assert error_of(pair.chip(FAR), "y[i] = A[i,j] * x[j]", **operands()) == (
            ErrorCode.BAD_DESCRIPTOR,
            0,
        )
    check_next(pair)


@on(SEVERAL, TWO_PORTS, ONE)
def test_lines_that_cannot_be_read(pair: Pair) -> None:
    """They are no error, unless a PE needs them too."""
    away = NOTHING | {"prefetch.0.address": ELSEWHERE, "prefetch.0.lines": 9}
    wanted, chip = pair.run("y[i] = A[i,j] * x[j]", memory=FAR, **operands()), pair.chip(FAR)
    first = descriptor_lines(pair.model.config) + 1
    try:
        with altered(lambda _: dict(away)):
            simulator(chip).fail(read=first)
            got = chip.compute("y[i] = A[i,j] * x[j]", **operands())
        assert Bits(got) == Bits(wanted) and simulator(chip).errors_answered
    finally:
        simulator(chip).fail()
    check_next(pair)
