"""Lists of kernels in a memory image, and every error that the model finds in them."""

import numpy as np
import pytest

from loopnest_hw.config import LINE_BYTES, make_config
from loopnest_hw.descriptor import LeafMode, ResultMode, pack
from loopnest_hw.registers import ErrorCode
from loopnest_sim.image import Image
from loopnest_sim.model.run import Run, run_kernels

from .tensors import rings

CONFIG = make_config("shrunk", "int8")
START = 0x1000
TABLE, BLOCKS, VALUES, RESULT = 0x8000, 0x8100, 0x8200, 0x9000
SIZE = 40
LEAF = f"row.{CONFIG.rows - 1}"

PRESENT = 0xAA
"""The table of operand 0."""

WORDS = [0 << 16 | 0x0101, 2 << 16 | 0x0080]
"""Block words of the one fiber: coordinates 0, 8 and 39."""


def copy_of_a_vector() -> dict[str, int]:
    """Return the descriptor of ``y[i] = x[i]``, compressed to dense values."""
    d = rings(CONFIG) | {f"row.{r}.bypass": 1 for r in range(1, CONFIG.rows - 1)}
    d |= {"row.0.cell.0.ones": 1, "row.0.size": 1, "row.0.block_table": PRESENT}
    d |= {"row.0.lane_table": PRESENT, f"{LEAF}.cell.0.mode": 2, f"{LEAF}.size": SIZE}
    d |= {f"{LEAF}.block_table": PRESENT, f"{LEAF}.lane_table": PRESENT, f"{LEAF}.cell.0.step": 1}
    d |= {f"{LEAF}.result_mode": int(ResultMode.KEY), f"{LEAF}.result_step": 1}
    d |= {"scanner.0.table": TABLE, "scanner.0.blocks": BLOCKS}
    d |= {"leaf_mode": int(LeafMode.AXPY), "op1": 2, "op2": 2, "drain_stop": 1, "last": 1}
    d |= {"operand.0.used": 1, "operand.0.values": VALUES}
    d |= {"result.size": SIZE, "result.values": RESULT, "result.values_end": RESULT + 4 * SIZE}
    return d | {"budget": 1000}


def run(*kernels: dict[str, int], words: list[int] = WORDS, end: int | None = None) -> Run:
    image = Image()
    image.write(TABLE, np.array([0, 0, len(words) if end is None else end], np.uint32))
    image.write(BLOCKS, np.array(words, np.uint32))
    image.write(VALUES, np.array([5, 6, 7], np.int8))
    packed = [pack(CONFIG, d) for d in kernels]
    image.write(START, np.concatenate(packed))
    found = run_kernels(CONFIG, image, START)
    if not found.errors:
        y = np.zeros(SIZE, np.int32)
        y[[0, 8, 39]] = 5, 6, 7
        np.testing.assert_array_equal(image.view(RESULT, SIZE, np.int32), y)
    return found


def errors(found: Run) -> set[str]:
    return {f"{code.name} {where}" for code, where in found.errors}


def test_a_list() -> None:
    d = copy_of_a_vector()
    found = run(d | {"last": 0}, d)
    assert (found.errors, found.completed) == ([], 2)
    assert found.regions == [(RESULT, RESULT + 4 * SIZE)] * 2
    assert {TABLE, BLOCKS, VALUES} == set(found.reads)
    # what follows is not a descriptor
    found = run(d | {"last": 0})
    assert (errors(found), found.completed) == ({"BAD_DESCRIPTOR 1"}, 1)


def test_the_list_lies_on_a_line() -> None:
    assert errors(run_kernels(CONFIG, Image(), START + 4)) == {"BAD_DESCRIPTOR 0"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([0x0101, 0], "TENSOR 3"),
        ([0x0101, 0x0080], "TENSOR 3"),
        ([2 << 16 | 1, 1 << 16 | 1], "TENSOR 3"),
        ([0x0101, 2 << 16 | 0x0100], "COORDINATE 3"),
        ([0x0101, 3 << 16 | 1], "COORDINATE 3"),
    ],
)
def test_words(words: list[int], expected: str) -> None:
    assert errors(run(copy_of_a_vector(), words=words)) == {expected}


def test_a_table_backwards() -> None:
    d = copy_of_a_vector() | {"scanner.0.table": BLOCKS}
    assert "TENSOR 3" in errors(run(d, words=[9, 0, 3]))


def test_a_fiber_that_is_too_long() -> None:
    """The chip reads on until it detects that, and may read the result."""
    assert errors(run(copy_of_a_vector(), end=1 << 31)) == {"TENSOR 3", "OVERLAP 1"}


def test_what_a_bypassed_row_holds_is_ignored() -> None:
    fields = {"row.1.cell.0.mode": 3, "row.1.cell.1.mode": 2, "row.1.result_mode": 3}
    assert not run(copy_of_a_vector() | fields | {"row.1.cell.1.scanner": 3}).errors


def over(address: int) -> dict[str, int]:
    return {"result.values": address, "result.values_end": address + 4 * SIZE}


@pytest.mark.parametrize("address", [TABLE, BLOCKS, VALUES, BLOCKS - LINE_BYTES])
def test_a_result_over_an_operand(address: int) -> None:
    assert "OVERLAP 1" in errors(run(copy_of_a_vector() | over(address)))


def test_a_result_over_the_next_descriptor() -> None:
    d = copy_of_a_vector()
    after = START + 4 * len(pack(CONFIG, d))
    found = run(d | {"last": 0} | over(after), d)
    assert (errors(found), found.completed) == ({"OVERLAP 1"}, 1)
    # its own descriptor may be overwritten, since it has been read
    assert run_kernels(CONFIG, image_of(d | over(START)), START).errors == []


def image_of(d: dict[str, int]) -> Image:
    image = Image()
    image.write(START, pack(CONFIG, d))
    return image


def test_keys_that_do_not_ascend() -> None:
    d = copy_of_a_vector() | {f"{LEAF}.result_mode": 0, "leaf_mode": int(LeafMode.SCATTER)}
    assert errors(run(d)) == {"KEYS 0"}


def test_work_that_no_budget_allows() -> None:
    d = copy_of_a_vector() | {"row.0.size": 1 << 20, "budget": 10}
    assert errors(run(d)) >= {"BUDGET 0"}


def test_blocks_that_have_no_slot() -> None:
    """Two rows of the nest belong to one result fiber, so it cannot be replayed."""
    words = [n << 16 | 1 for n in range(CONFIG.slots + 1)]
    d = copy_of_a_vector() | {f"{LEAF}.size": 1 << 20, "accumulate": 1, "drain_stop": 2}
    d |= {"result.values_end": RESULT + 0x4000}
    assert errors(run(d, words=words)) == {"SLOTS 0"}
    assert run_kernels_of(d, words[:-1]).errors == []


def run_kernels_of(d: dict[str, int], words: list[int]) -> Run:
    image = image_of(d)
    image.write(TABLE, np.array([0, 0, len(words)], np.uint32))
    image.write(BLOCKS, np.array(words, np.uint32))
    return run_kernels(CONFIG, image, START)


@pytest.mark.parametrize(
    "fields",
    [
        {"ring.3.base": 0},
        {"result.values_end": RESULT - 1},
        {"result.compressed": 1, "result.table": RESULT, "result.table_end": RESULT + 32},
        {"drain_stop": 3},
        {"operand.0.wide": 1, "operand.0.values": VALUES + 2},
        {"epilogue.bias": 2},
        {"row.0.result_mode": 2, "row.0.result_step": 8},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_contradictions(fields: dict[str, int]) -> None:
    assert errors(run(copy_of_a_vector() | fields)) == {f"{ErrorCode.BAD_DESCRIPTOR.name} 0"}
