"""Lists of kernels in a memory image, and every error that the model finds in them."""

import numpy as np
import pytest

from loopnest_hw.config import LINE_BYTES, make_config
from loopnest_hw.descriptor import LeafMode, pack
from loopnest_hw.registers import ErrorCode
from loopnest_sim.image import Image
from loopnest_sim.model.run import Run, run_kernels

from . import vector_copy
from .vector_copy import (
    BLOCKS,
    COORDINATES,
    RESULT,
    SIZE,
    TABLE,
    VALUES,
    WORDS,
    dependent_copies,
    write_vector,
)

CONFIG = make_config("shrunk", "int8")
START = 0x1000
LEAF = f"row.{CONFIG.rows - 1}"


def copy_of_a_vector() -> dict[str, int]:
    return vector_copy.copy_of_a_vector(CONFIG)


def run(*kernels: dict[str, int], words: list[int] = WORDS, end: int | None = None) -> Run:
    image = Image()
    write_vector(image, words, end)
    packed = [pack(CONFIG, d) for d in kernels]
    image.write(START, np.concatenate(packed))
    found = run_kernels(CONFIG, image, START)
    if not found.errors:
        y = np.zeros(SIZE, np.int32)
        y[COORDINATES] = 5, 6, 7
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


def test_what_follows_in_a_fiber_that_is_too_long() -> None:
    """The chip checks a line's words at once, and reports what does not ascend first."""
    words = [n << 16 | 1 for n in range(3, 9)]
    assert errors(run(copy_of_a_vector(), words=words, end=6)) == {"COORDINATE 3"}
    assert errors(run(copy_of_a_vector(), words=[*words, 0], end=7)) == {"COORDINATE 3", "TENSOR 3"}


def test_what_a_bypassed_row_holds_is_ignored() -> None:
    fields = {"row.1.cell.0.mode": 3, "row.1.cell.1.mode": 2, "row.1.result_mode": 3}
    assert not run(copy_of_a_vector() | fields | {"row.1.cell.1.scanner": 3}).errors


COUNTERS = 0xB000
GARBAGE = 0xA5


def test_a_list_on_garbage() -> None:
    """Each region is initialised before its kernel, and nothing else; the counters are left."""
    background = 0x01020304
    image = Image()
    image.write(0, bytes([GARBAGE]) * 0xC000)
    write_vector(image)
    kernels = dependent_copies(CONFIG, background, counters=COUNTERS)
    end = kernels[1]["result.values_end"] = kernels[1]["result.values_end"] + 3
    image.write(START, np.concatenate([pack(CONFIG, d) for d in kernels]))
    found = run_kernels(CONFIG, image, START)
    assert (found.errors, found.completed) == ([], 2)
    assert found.counters == [(COUNTERS, COUNTERS + 224), (COUNTERS + 256, COUNTERS + 480)]
    assert set(found.counters) < set(found.regions)
    assert set(image.read(COUNTERS, 512)) == {GARBAGE}
    y = np.full(SIZE, background, np.int32)
    y[COORDINATES] = 5, 6, 7
    np.testing.assert_array_equal(image.view(RESULT, SIZE, np.int32), y)
    z = np.full(SIZE, background, np.int32)
    z[COORDINATES] = y[:3]
    np.testing.assert_array_equal(image.view(end - 3 - 4 * SIZE, SIZE, np.int32), z)
    assert image.read(end - 3, 6).tolist() == [4, 3, 2, GARBAGE, GARBAGE, GARBAGE]


def test_a_table_is_initialised_with_zeros() -> None:
    image = Image()
    image.write(0, bytes([GARBAGE]) * 0xC000)
    write_vector(image)
    d = copy_of_a_vector() | {"result.initialise": 1, "result.background": 7}
    d |= {"result.compressed": 1, "result.table": COUNTERS, "result.table_end": COUNTERS + 64}
    d |= {"result.blocks": 0xA000, "result.blocks_end": 0xA100, "result.start": 2}
    image.write(START, pack(CONFIG, d))
    assert not run_kernels(CONFIG, image, START).errors
    expected = [*([0] * 8), 0, 0, 2, 0, *([0] * 4), GARBAGE * 0x01010101]
    assert image.view(COUNTERS, 17, np.uint32).tolist() == expected
    assert image.view(RESULT + 12, 1, np.uint32) == GARBAGE * 0x01010101


def test_a_region_that_no_budget_fills() -> None:
    d = copy_of_a_vector() | {"result.initialise": 1, "result.values_end": 0xFFFFFFFF}
    assert errors(run(d)) == {"BUDGET 0"}


def test_counters_over_the_next_descriptor() -> None:
    d = copy_of_a_vector()
    after = START + 4 * len(pack(CONFIG, d))
    found = run(d | {"last": 0, "counters": after}, d)
    assert (errors(found), found.completed) == ({"OVERLAP 3"}, 1)
    assert errors(run(d | {"counters": BLOCKS - LINE_BYTES})) == {"OVERLAP 3"}


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
        {"counters": 0xB004},
        {"counters": 0xFFFFFFE0},
        {"counters": RESULT},
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
