"""Kernels that end with an error, on the RTL and on the model; the next one runs right."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import loopnest.run
from loopnest import Chip, ChipError, Memory, Tensor
from loopnest.backends import DONE, INTERRUPT_ENABLE, SOFT_RESET, START
from loopnest.lower import Kernel, lower
from loopnest_hw.registers import OFFSETS, ErrorCode
from tests.rtl.chips import QUICK, Pair, altered, on, simulator
from tests.rtl.kernels import KINDS, check, random_operands

LATE = 1 << 3
"""Of the status: transfers that a soft reset gave up are still due."""

BROKEN = (0x4000, 0x4020)
"""A line that answers with errors: small kernels lie below."""

FAILING = Memory(latency=4, fill=0xA5, errors=BROKEN)


def check_next(pair: Pair, memory: Memory = QUICK) -> None:
    """Assert that kernels of several kinds run right."""
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


def matrices() -> dict[str, sp.csr_array]:
    A = sp.csr_array(np.arange(400).reshape(20, 20) % 5)
    return {"A": A, "B": sp.csr_array(A.T)}


@on("shrunk/int8", "tiny/bf16")
@pytest.mark.parametrize(
    "fields",
    [{"magic": 0}, {"leaf_mode": 3}, {"row.0.bypass": 1}, {"result.values": 0x20004}, {"op1": 3}],
    ids=lambda fields: next(iter(fields)),
)
def test_bad_descriptors(pair: Pair, fields: dict[str, int]) -> None:
    with altered(lambda _: fields):
        for chip in (pair.chip(), pair.model):
            error = error_of(chip, "C[i,j] = A[i,j] + B[i,j]", **matrices())
            assert error == (ErrorCode.BAD_DESCRIPTOR, 0)
    check_next(pair)


@on("shrunk/int8", "tiny/bf16")
@pytest.mark.parametrize("what", ["blocks", "values"])
def test_a_full_result(pair: Pair, what: str) -> None:
    """The room's end is where nothing may be written from."""

    def less(kernel: Kernel) -> dict[str, int]:
        return {f"result.{what}_end": kernel.fields[f"result.{what}"] + 32}

    with altered(less):
        errors = [
            error_of(chip, "C[i,j] = A[i,j] + B[i,j]", **matrices())
            for chip in (pair.chip(), pair.model)
        ]
    assert errors == [(ErrorCode.RESULT_FULL, ("blocks", "values").index(what))] * 2
    check_next(pair)


@on("shrunk/int8", "tiny/bf16")
def test_the_runtime_tries_again_with_more_room(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms: list[int] = []

    def small(config: Any, *args: Any, **options: Any) -> Kernel:
        kernel = lower(config, *args, **options)
        rooms.append(kernel.room)
        return kernel

    monkeypatch.setattr("loopnest.lower.ROOM", 0)
    monkeypatch.setattr("loopnest.lower.LEAST_ROOM", 1)
    monkeypatch.setattr(loopnest.run, "lower", small)
    operands = matrices()
    expected = (operands["A"] + operands["B"]).toarray()
    got = pair.run("C[i,j] = A[i,j] + B[i,j]", **operands)
    assert np.array_equal(got.toarray(), expected)
    assert rooms == [1, 8, 64, 400] * 2


@on("shrunk/int8", "tiny/bf16")
@pytest.mark.parametrize("budget", [1, 50, 400])
def test_the_budget_ends_a_kernel(pair: Pair, budget: int) -> None:
    for memory in (QUICK, Memory(latency=100, fill=0xA5)):
        with altered(lambda _: {"budget": budget}):
            error = error_of(pair.chip(memory), "C[i,j] = A[i,k] * B[k,j]", **matrices())
        assert error == (ErrorCode.BUDGET, 0)
        check_next(pair, memory)


@on("shrunk/int8", "tiny/bf16")
def test_a_read_error(pair: Pair) -> None:
    """Every array in turn lies across the line that answers with errors."""
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


@on("shrunk/int8", "tiny/bf16")
def test_a_write_error(pair: Pair) -> None:
    def elsewhere(kernel: Kernel) -> dict[str, int]:
        size = kernel.fields["result.values_end"] - kernel.fields["result.values"]
        return {"result.values": BROKEN[0], "result.values_end": BROKEN[0] + size}

    A = np.arange(12).reshape(3, 4)
    with altered(elsewhere):
        code, where = error_of(pair.chip(FAILING), "C[i,j] = A[i,j] * B[i,j]", A=A, B=A)
    assert (code, where) == (ErrorCode.WRITE_ERROR, 0)
    check_next(pair, FAILING)


@on("shrunk/int8")
@pytest.mark.parametrize("statement", ["y[i] = A[i,j] + B[i,j]", "y[i] = A[i,j]"])
def test_sums_that_leave_int32(pair: Pair, statement: str) -> None:
    most = np.iinfo(np.int32).max
    A = Tensor.from_dense(np.array([[most - 1, 1, 1]]), dtype="int8", wide=True)
    operands = {"A": A, "B": A} if "B" in statement else {"A": A}
    for chip in (pair.chip(), pair.model):
        assert error_of(chip, statement, **operands) == (ErrorCode.OVERFLOW, 0)
    check_next(pair)


@on("shrunk/int8", "tiny/bf16")
def test_a_memory_that_falls_silent(pair: Pair) -> None:
    """The watchdog ends the run; after a soft reset the next one is right, whatever comes late."""
    chip = simulator(pair.chip())
    check_next(pair)
    for cycles in (0, 3, 40, 77, 100):
        chip.set_register(OFFSETS["status"], DONE)
        chip.set_register(OFFSETS["control"], START | INTERRUPT_ENABLE)
        chip.step(cycles)
        chip.mute(True)
        chip.run_until_interrupt(1 << 20)
        assert chip.register(OFFSETS["error"]) == ErrorCode.TIMEOUT
        chip.set_register(OFFSETS["control"], SOFT_RESET)
        late = chip.register(OFFSETS["status"])
        # still silent: what was given up is on the bus, and nothing else gets there
        chip.set_register(OFFSETS["control"], START | INTERRUPT_ENABLE)
        chip.run_until_interrupt(1 << 20)
        assert chip.register(OFFSETS["error"]) == ErrorCode.TIMEOUT
        chip.set_register(OFFSETS["control"], SOFT_RESET)
        chip.mute(False)
        # what the host writes next must not be in the way of a write that is still on the bus
        chip.step(200)
        assert (late, chip.register(OFFSETS["status"])) == (LATE, 0)
        check_next(pair)


@on("shrunk/int8", "tiny/bf16")
def test_a_soft_reset_in_the_middle(pair: Pair) -> None:
    """Whenever a run is broken off, the next one is right."""
    chip = simulator(pair.chip())
    check_next(pair)
    for cycles in (3, 40, 77, 200, 391):
        chip.set_register(OFFSETS["control"], START)
        chip.step(cycles)
        chip.set_register(OFFSETS["control"], SOFT_RESET)
        chip.step(300)
        assert chip.register(OFFSETS["status"]) & 1 == 0, "still busy"
        check_next(pair)
