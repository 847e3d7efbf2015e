"""Kernels that end with an error, on the RTL and on the model; the next one is correct."""

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

import loopnest.program.execute
from loopnest import Chip, ChipError, Memory, Tensor
from loopnest.kernel.backends import DONE, INTERRUPT_ENABLE, LATE, SOFT_RESET, START
from loopnest.kernel.lower import Kernel, lower
from loopnest_hw.descriptor import LeafMode, Op, ResultMode
from loopnest_hw.registers import OFFSETS, ErrorCode
from tests.rtl.chips import QUICK, TWO_PORTS, Pair, altered, on, simulator
from tests.rtl.kernels import KINDS, check, random_operands

BROKEN = (0x4000, 0x4020)
"""A line that answers with errors; small kernels are below it."""

FAILING = Memory(latency=4, fill=0xA5, errors=BROKEN)


def check_next(pair: Pair, memory: Memory = QUICK) -> None:
    """Assert that kernels of several kinds are correct."""
    for name in ("spgemm by rows", "add", "spmv"):
        kind = KINDS[name]
        rng = np.random.default_rng(5)
        operands = random_operands(kind, {"i": 9, "j": 20, "k": 17}, rng, pair.dtype)
        got = pair.run(kind.statement, memory=memory, **operands, **kind.arguments())
        check(kind, operands, pair.dtype, got)


def error_of(chip: Chip, statement: str, **operands: Any) -> tuple[ErrorCode, int]:
    with pytest.raises(ChipError) as caught:
        chip.compute(statement, **operands)
    assert str(caught.value.code.name) in str(caught.value)
    return caught.value.code, caught.value.where


def small_capacities(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let results begin with a capacity of one entry; return the list of all that are tried."""
    capacities: list[int] = []

    def small(config: Any, *args: Any, **options: Any) -> Kernel:
        kernel = lower(config, *args, **options)
        capacities.append(kernel.capacity)
        return kernel

    monkeypatch.setattr("loopnest.kernel.lower.CAPACITY", 0)
    monkeypatch.setattr("loopnest.kernel.lower.MIN_CAPACITY", 1)
    monkeypatch.setattr(loopnest.program.execute, "lower", small)
    return capacities


def matrices() -> dict[str, sp.csr_array]:
    A = sp.csr_array(np.arange(400).reshape(20, 20) % 5)
    return {"A": A, "B": sp.csr_array(A.T)}


@on("shrunk/int8", TWO_PORTS, "single/bf16")
@pytest.mark.parametrize(
    "fields",
    [
        {"magic": 0},
        {"leaf_mode": 3},
        {"row.0.bypass": 1},
        {"result.values": 0x20004},
        {"op1": len(Op)},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_bad_descriptors(pair: Pair, fields: dict[str, int]) -> None:
    with altered(lambda _: fields):
        for chip in (pair.chip(), pair.model):
            error = error_of(chip, "C[i,j] = A[i,j] + B[i,j]", **matrices())
            assert error == (ErrorCode.BAD_DESCRIPTOR, 0)
    check_next(pair)


@on("shrunk/int8", TWO_PORTS, "single/bf16")
@pytest.mark.parametrize("what", ["blocks", "values"])
def test_a_full_result(pair: Pair, what: str) -> None:
    """Nothing is written at or beyond the end of a region."""

    def less(kernel: Kernel) -> dict[str, int]:
        return {f"result.{what}_end": kernel.fields[f"result.{what}"] + 32}

    with altered(less):
        errors = [
            error_of(chip, "C[i,j] = A[i,j] + B[i,j]", **matrices())
            for chip in (pair.chip(), pair.model)
        ]
    assert errors == [(ErrorCode.RESULT_FULL, ("blocks", "values").index(what))] * 2
    check_next(pair)


@on("shrunk/int8", "single/bf16")
def test_the_runtime_tries_again_with_more_capacity(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    capacities = small_capacities(monkeypatch)
    operands = matrices()
    expected = (operands["A"] + operands["B"]).toarray()
    got = pair.run("C[i,j] = A[i,j] + B[i,j]", **operands)
    assert np.array_equal(got.toarray(), expected)
    assert capacities == [1, np.count_nonzero(expected)] * 2


@on("shrunk/int8", TWO_PORTS, "single/bf16")
@pytest.mark.parametrize("budget", [1, 50, 400])
def test_the_budget_ends_a_kernel(pair: Pair, budget: int) -> None:
    for memory in (QUICK, Memory(latency=100, fill=0xA5)):
        with altered(lambda _: {"budget": budget}):
            error = error_of(pair.chip(memory), "C[i,j] = A[i,k] * B[k,j]", **matrices())
        assert error == (ErrorCode.BUDGET, 0)
        check_next(pair, memory)


@on("shrunk/int8", TWO_PORTS, "single/bf16")
def test_a_read_error(pair: Pair) -> None:
    """Each array in turn contains the line that answers with errors."""
    chip = pair.chip(FAILING)
    rng = np.random.default_rng(6)
    pad = (BROKEN[0] - 0x2000) // (1 if pair.dtype == "int8" else 2)
    wide = rng.integers(1, 9, (1, pad + 200))
    for statement, operands in (
        ("y[i] = A[i,j] * x[j]", {"A": wide, "x": wide[0]}),
        ("y[i] = A[i,j] * x[j]", {"A": sp.csr_array(wide), "x": wide[0]}),
    ):
        code, _ = error_of(chip, statement, **operands)
        assert code is ErrorCode.READ_ERROR
        check_next(pair, FAILING)


@on("shrunk/int8", TWO_PORTS, "single/bf16")
def test_a_write_error(pair: Pair) -> None:
    def elsewhere(kernel: Kernel) -> dict[str, int]:
        size = kernel.fields["result.values_end"] - kernel.fields["result.values"]
        return {"result.values": BROKEN[0], "result.values_end": BROKEN[0] + size}

    A = np.arange(12).reshape(3, 4)
    with altered(elsewhere):
        code, where = error_of(pair.chip(FAILING), "C[i,j] = A[i,j] * B[i,j]", A=A, B=A)
    assert (code, where) == (ErrorCode.WRITE_ERROR, 0)
    check_next(pair, FAILING)


@on("shrunk/int8", TWO_PORTS)
@pytest.mark.parametrize("statement", ["y[i] = A[i,j] + B[i,j]", "y[i] = A[i,j]"])
def test_sums_that_leave_int32(pair: Pair, statement: str) -> None:
    most = np.iinfo(np.int32).max
    A = Tensor.from_dense(np.array([[most - 1, 1, 1]]), dtype="int8", wide=True)
    operands = {"A": A, "B": A} if "B" in statement else {"A": A}
    for chip in (pair.chip(), pair.model):
        assert error_of(chip, statement, **operands) == (ErrorCode.OVERFLOW, 0)
    check_next(pair)


@on("shrunk/int8", TWO_PORTS, "single/bf16")
def test_a_memory_that_stops_answering(pair: Pair) -> None:
    """The watchdog ends the run, also if one port alone stops; after a soft reset the next one is
    correct, despite late answers.
    """
    chip = simulator(pair.chip())
    check_next(pair)
    ports = [(0, 1), (0,), (1,)] if pair.model.config.memory_ports == 2 else [(0,)]
    # the other chip's watchdog waits much longer
    times = (0, 3, 40, 77, 100) if pair.preset == "shrunk" else (40,)
    for cycles, dead in product(times, ports):
        chip.set_register(OFFSETS["status"], DONE)
        chip.set_register(OFFSETS["control"], START | INTERRUPT_ENABLE)
        chip.step(cycles)
        chip.mute(True, dead)
        chip.run_until_interrupt(1 << 20)
        assert chip.register(OFFSETS["error"]) == ErrorCode.TIMEOUT
        chip.set_register(OFFSETS["control"], SOFT_RESET)
        late = chip.register(OFFSETS["status"])
        # still mute: the abandoned requests are on the bus and block others
        chip.set_register(OFFSETS["control"], START | INTERRUPT_ENABLE)
        chip.run_until_interrupt(1 << 20)
        assert chip.register(OFFSETS["error"]) == ErrorCode.TIMEOUT
        chip.set_register(OFFSETS["control"], SOFT_RESET)
        chip.mute(False)
        # the host must not write where a write is still on the bus
        chip.step(200)
        assert (late, chip.register(OFFSETS["status"])) == (LATE, 0)
        check_next(pair)


@on("shrunk/int8", TWO_PORTS, "single/bf16")
def test_a_soft_reset_in_the_middle(pair: Pair) -> None:
    """Whenever a run is aborted, the next one is correct."""
    chip = simulator(pair.chip())
    check_next(pair)
    for cycles in (3, 40, 77, 200, 391):
        chip.set_register(OFFSETS["control"], START)
        chip.step(cycles)
        chip.set_register(OFFSETS["control"], SOFT_RESET)
        chip.step(300)
        assert chip.register(OFFSETS["status"]) & 1 == 0, "still busy"
        check_next(pair)


def corrupted(
    monkeypatch: pytest.MonkeyPatch, level: str, change: Callable[[NDArray[np.uint32]], None]
) -> None:
    """Change an array of a level, such as ``scanner.0.blocks``, before it is written."""

    def corrupting_lower(config: Any, *args: Any, **options: Any) -> Kernel:
        kernel = lower(config, *args, **options)
        segments = [
            (a, array.copy() if a == kernel.fields[level] else array)
            for a, array in kernel.segments
        ]
        for address, array in segments:
            if address == kernel.fields[level]:
                change(array)
        return replace(kernel, segments=segments)

    monkeypatch.setattr(loopnest.program.execute, "lower", corrupting_lower)


CORRUPTIONS: dict[str, tuple[str, int, Callable[[int], int], ErrorCode]] = {
    "an empty mask": ("blocks", 3, lambda word: word & 0xFFFF0000, ErrorCode.TENSOR),
    "a block again": ("blocks", 3, lambda word: word - (1 << 16), ErrorCode.TENSOR),
    "a table backwards": ("table", 4, lambda word: 1, ErrorCode.TENSOR),
    "a coordinate too large": ("blocks", 3, lambda word: word | 1 << 15, ErrorCode.COORDINATE),
    "a block too large": ("blocks", 3, lambda word: word + (1 << 16), ErrorCode.COORDINATE),
    "a fiber of 2^32 blocks": ("table", 4, lambda word: 0xFFFFFFFF, ErrorCode.TENSOR),
}


@on("shrunk/int8", TWO_PORTS, "single/bf16")
@pytest.mark.parametrize("what", CORRUPTIONS)
def test_inconsistent_tensors(pair: Pair, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second row's words: two blocks of coordinates below 20."""
    array, at, change, code = CORRUPTIONS[what]

    def corrupt(words: NDArray[np.uint32]) -> None:
        words[at] = change(int(words[at]))

    A = sp.csr_array(np.ones((5, 20)))
    with monkeypatch.context() as patch:
        corrupted(patch, f"scanner.0.{array}", corrupt)
        for chip in (pair.chip(), pair.model):
            found, where = error_of(chip, "y[i] = A[i,j] * x[j]", A=A, x=np.ones(20))
            assert where == pair.model.config.rows - 1
            assert found is code
    check_next(pair)


@on("shrunk/int8", TWO_PORTS, "single/bf16")
@pytest.mark.parametrize("operand", ["A", "B"])
def test_a_result_that_overlaps_an_operand(pair: Pair, operand: str) -> None:
    """Its values are at the address of an operand's, which is not read ahead."""

    def over(kernel: Kernel) -> dict[str, int]:
        address = kernel.fields[f"operand.{'AB'.index(operand)}.values"]
        size = kernel.fields["result.values_end"] - kernel.fields["result.values"]
        ahead = {path: 0 for path in kernel.fields if re.match(r"prefetch\.\d+\.lines", path)}
        return ahead | {"result.values": address, "result.values_end": address + size}

    A = np.arange(12).reshape(3, 4)
    with altered(over):
        error = error_of(pair.chip(), "C[i,j] = A[i,j] * B[i,j]", A=A, B=A + 1)
    assert error == (ErrorCode.OVERLAP, 1)
    check_next(pair)


@on("shrunk/int8", TWO_PORTS, "single/bf16")
def test_regions_that_overlap(pair: Pair) -> None:
    def over(kernel: Kernel) -> dict[str, int]:
        return {"result.blocks_end": kernel.fields["result.values"] + 32}

    with altered(over):
        for chip in (pair.chip(), pair.model):
            error = error_of(chip, "C[i,j] = A[i,j] + B[i,j]", **matrices())
            assert error == (ErrorCode.BAD_DESCRIPTOR, 0)
    check_next(pair)


@on("shrunk/int8", TWO_PORTS, "single/bf16")
def test_keys_that_do_not_ascend(pair: Pair) -> None:
    """The elements of a row all have the key of the first, and the nest does not accumulate."""
    leaf = f"row.{pair.model.config.rows - 1}"
    fields = {f"{leaf}.result_mode": ResultMode.HOLD, "leaf_mode": LeafMode.SCATTER}
    with altered(lambda _: dict(fields)):
        for chip in (pair.chip(), pair.model):
            error = error_of(chip, "C[i,j] = A[i,j] + B[i,j]", **matrices())
            assert error == (ErrorCode.KEYS, 0)
    check_next(pair)


@on("shrunk/int8", TWO_PORTS, "single/bf16")
def test_a_table_that_does_not_fit(pair: Pair) -> None:
    """Nothing is written beyond the table's region."""

    def less(kernel: Kernel) -> dict[str, int]:
        return {"result.table_end": kernel.fields["result.table_end"] - 16}

    with altered(less):
        for chip in (pair.chip(), pair.model):
            error = error_of(chip, "C[i,j] = A[i,j] + B[i,j]", **matrices())
            assert error == (ErrorCode.RESULT_FULL, 2)
    check_next(pair)
