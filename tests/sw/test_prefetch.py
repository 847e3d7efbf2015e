"""What the runtime lets the cache read ahead."""

import numpy as np
import pytest
import scipy.sparse as sp

import loopnest
from loopnest import Chip
from loopnest.kernel.lower import Kernel
from loopnest.kernel.prefetch import (
    CACHE_SHARE,
    PORT_LINES,
    REUSE,
    REUSED_LINES,
    Read,
    prefetch_fields,
)
from loopnest_hw.config import LINE_BYTES, ChipConfig, make_config
from loopnest_hw.descriptor import PREFETCHES

SMALL, LARGE, SHRUNK = (
    make_config("small"),
    make_config("large"),
    make_config("shrunk", "int8", cache=1),
)


def ranges(fields: dict[str, int]) -> list[tuple[int, int]]:
    """Return address and lines of each range."""
    found = [
        (fields.get(f"prefetch.{n}.address", 0), fields.get(f"prefetch.{n}.lines", 0))
        for n in range(PREFETCHES)
    ]
    return [(address, lines) for address, lines in found if lines]


def used(address: int, lines: int) -> Read:
    """Return an array that is read once."""
    return Read(address, lines * LINE_BYTES, lines)


def test_short_arrays_are_read_whole() -> None:
    reads = [used(0x1000, 3), Read(0x2000, 1, 1), used(0x3000, 20)]
    assert ranges(prefetch_fields(LARGE, reads)) == [(0x1000, 3), (0x2000, 1), (0x3000, 20)]


@pytest.mark.parametrize("config", [SMALL, LARGE, SHRUNK])
def test_long_arrays_share_what_there_is(config: ChipConfig) -> None:
    reads = [used(0x1000, 5000), used(0x200000, 2), used(0x300000, 9000)]
    found = dict(ranges(prefetch_fields(config, reads)))
    room = min(PORT_LINES * config.memory_ports, config.cache_lines // CACHE_SHARE)
    assert sum(found.values()) == room
    assert found[0x200000] == 2 and abs(found[0x1000] - found[0x300000]) <= 1


def test_arrays_that_are_read_often_take_nothing_from_others() -> None:
    often = Read(0x200000, 300 * LINE_BYTES, 300 * REUSE)
    found = dict(ranges(prefetch_fields(LARGE, [used(0x1000, 5000), often])))
    assert found == {0x1000: PORT_LINES * LARGE.memory_ports, 0x200000: 300}


@pytest.mark.parametrize("config", [SMALL, LARGE, SHRUNK])
def test_long_arrays_that_are_read_often(config: ChipConfig) -> None:
    often = [Read(0x100000 * n, 5000 * LINE_BYTES, 5000 * REUSE) for n in (1, 2)]
    found = dict(ranges(prefetch_fields(config, often)))
    room = min(REUSED_LINES * config.memory_ports, config.cache_lines // CACHE_SHARE)
    assert found == {read.address: room // 2 for read in often}


@pytest.mark.parametrize("times", [REUSE - 0.1, REUSE])
def test_what_is_read_often(times: float) -> None:
    reads = [used(0x1000, 5000), Read(0x200000, 300 * LINE_BYTES, 300 * times)]
    found = dict(ranges(prefetch_fields(LARGE, reads)))
    beside = 0 if times >= REUSE else PORT_LINES * LARGE.memory_ports // 2
    assert found[0x1000] == PORT_LINES * LARGE.memory_ports - beside


def test_the_vector_of_a_product_is_read_whole() -> None:
    lines = LARGE.memory_ports * PORT_LINES  # as many as there are of all other arrays
    columns = lines * (LINE_BYTES // 2)  # of bf16
    matrix = sp.random_array((400, columns), density=0.01, rng=1, format="csr")
    chip = Chip("large", backend="model")
    chip.compute("y[i] = A[i,j] * x[j]", A=matrix, x=np.ones(columns), order="ij")
    assert chip.report is not None
    (run,) = chip.report._runs
    assert ranges(dict(run.kernel.fields))[-1][1] == lines


def test_part_of_a_line_is_a_line() -> None:
    reads = [Read(0x1000, 8, 0.25), Read(0x2000, 40, 0.1), Read(0x3000, 8, 0.0)]
    assert ranges(prefetch_fields(SMALL, reads)) == [(0x1000, 1)]


def test_what_is_mostly_skipped_is_not_read() -> None:
    reads = [used(0x1000, 10), Read(0x2000, 100 * LINE_BYTES, 20)]
    assert ranges(prefetch_fields(SMALL, reads)) == [(0x1000, 10)]


def test_an_array_has_one_range() -> None:
    assert ranges(prefetch_fields(SMALL, [used(0x1000, 10), used(0x1000, 10)])) == [(0x1000, 10)]


def test_an_array_of_two_sizes() -> None:
    """An operand and its view: the larger part counts, whichever is first."""
    reads = [Read(0x1000, 10 * LINE_BYTES, 10), Read(0x1000, 4 * LINE_BYTES, 4)]
    for in_order in (reads, reads[::-1]):
        assert ranges(prefetch_fields(SMALL, in_order)) == [(0x1000, 10)]


def test_the_values_of_a_view() -> None:
    """They are the first ones of a larger array: the sums of a heavy row's parts."""
    A = sp.csr_array(sp.vstack([np.ones((1, 40_000)), sp.eye_array(40_000)]))
    chip = Chip("large", backend="model")
    chip.compute("y[i] = A[i,j] * x[j]", A=A, x=np.ones(40_000), order="ij")
    assert chip.report is not None
    _, adding = (dict(run.kernel.fields) for run in chip.report._runs)
    values = {adding[f"operand.{c}.values"] for c in (0, 1)}
    found = dict(ranges(adding))
    assert [found[address] for address in values] == [1, 1]


def test_the_first_of_many_arrays() -> None:
    reads = [used(0x1000 * n, 2) for n in range(1, 12)]
    assert [address for address, _ in ranges(prefetch_fields(SMALL, reads))] == [
        0x1000 * n for n in range(1, PREFETCHES + 1)
    ]


def test_none_without_a_cache() -> None:
    assert not prefetch_fields(make_config("single"), [used(0x1000, 10)])


def check_inside(kernel: Kernel) -> int:
    """Check that a kernel reads ahead what it reads anyway; return the number of ranges."""
    fields = dict(kernel.fields)
    bases = {v for path, v in fields.items() if path.endswith((".table", ".blocks", ".values"))}
    own = {fields.get(f"result.{name}") for name in ("table", "blocks", "values")}
    found = ranges(fields)
    for address, lines in found:
        assert address in bases - own
        others = [base for base in bases if base > address]
        assert not others or address + LINE_BYTES * (lines - 1) < min(others)
    return len(found)


MATRIX = sp.random_array((200, 300), density=0.1, rng=1, format="csr")
STATEMENTS = {
    "y[i] = A[i,j] * x[j]": 4,
    "C[i,j] = A[i,k] * B[k,j]": 6,
    "C[i,j] = S[i,j] * U[i,r] * V[r,j]": 4,
    "d[i] = x[i] + y[i]": 2,
}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_ranges_lie_in_operands(statement: str) -> None:
    rng = np.random.default_rng(4)
    operands = {
        "A": MATRIX,
        "B": sp.csr_array(MATRIX.T),
        "S": MATRIX,
        "U": rng.random((200, 8)),
        "V": rng.random((8, 300)),
        "x": rng.random(300),
        "y": rng.random(300),
    }
    chip = Chip("large", backend="model")
    right = statement.partition("=")[2]
    named = {name: value for name, value in operands.items() if f"{name}[" in right}
    chip.compute(statement, **named)
    assert chip.report is not None
    (run,) = chip.report._runs
    assert check_inside(run.kernel) >= STATEMENTS[statement]


def test_programs_read_weights_ahead() -> None:
    """Their tensors have places before they have contents."""
    chip = Chip("large", backend="model")
    x = np.ones((8, 300))
    program = loopnest.compile(
        ["h[b,i] = x[b,j] * A[i,j]", "y[b,j] = h[b,i] * A[i,j]"],
        {"x": x, "A": MATRIX},
        chip=chip,
    )
    program()
    assert program.report is not None
    counts = [check_inside(run.kernel) for run in program.report._runs]
    assert min(counts) >= 4
