"""Inconsistent tensors are refused with a message that says where they are wrong."""

import numpy as np
import pytest

from loopnest import CompressedLevel, Tensor


def u32(*values):
    return np.array(values, np.uint32)


def word(block, mask):
    return block << 16 | mask


WORDS = (word(0, 0b11), word(1, 0b1), word(0, 0b100))
PACKED = (0, 0, 2, 3, 2, 3, 3)
"""Three fibers: two blocks with 3 coordinates, none, one block with one."""
OPEN = (2, 0, 3, 0, 0, 0, 0, 0, 0, 1, 2, 0)
"""The same words with fibers 0 and 2 exchanged, at stride 4."""


def build(table=PACKED, words=WORDS, values=4, stride=2, size=20):
    level = CompressedLevel(u32(*table), u32(*words), stride)
    return Tensor(
        (3, size), "dense,compressed", [None, level], np.ones(values, np.int8), dtype="int8"
    )


def test_good_ones():
    assert build().nnz == 4
    exchanged = build(OPEN, stride=4)
    assert exchanged.to_dense()[0].nonzero()[0].tolist() == [2]
    assert exchanged.to_dense()[2].nonzero()[0].tolist() == [0, 1, 16]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"words": (word(1, 1), word(0, 1), 4)}, "level 1, fiber 0, block word 1 .*unsorted"),
        ({"words": (word(1, 1), word(1, 2), 4)}, "level 1, fiber 0, block word 1 .*repeated"),
        ({"words": (3, word(1, 1), 0)}, "level 1, fiber 2, block word 2 .*empty mask"),
        ({"size": 16}, "fiber 0, block word 1 .*coordinate at or above the size 16"),
        ({"table": (0, 0, 2, 3, 1, 3, 3)}, "level 1: position table runs backwards at fiber 1"),
        ({"table": (0, 0, 2, 3, 2, 3, 4)}, "fiber 2 ends at block word 4, past the end"),
        ({"table": (0, 0, 2, 3, 2, 9, 3)}, "values: position 9 is past the end: there are 4"),
        ({"values": 3}, "values: position 3 is past the end"),
        ({"table": (0, 0, 2, 3, 2)}, "level 1: position table: position 2 is past the end"),
        ({"table": (0, 0, 2, 3)}, "position table of 4 words: expected 2n"),
        ({"stride": 3}, "position table of stride 3: expected 2 or 4"),
        ({"table": (2, 0, 1, *OPEN[3:]), "stride": 4}, "runs backwards at fiber 0"),
        ({"table": (2, 0, 4, *OPEN[3:]), "stride": 4}, "fiber 0 ends at block word 4"),
    ],
)
def test_contradictions(change, message):
    with pytest.raises(ValueError, match=message):
        build(**change)


def test_arrays_that_do_not_fit_the_levels():
    level = CompressedLevel(u32(*PACKED), u32(*WORDS))
    values = np.ones(4, np.int8)
    with pytest.raises(ValueError, match="level 0 is dense: expected no arrays"):
        Tensor((3, 20), "dense,compressed", [level, level], values, dtype="int8")
    with pytest.raises(ValueError, match="1 level arrays: expected 2"):
        Tensor((3, 20), "dense,compressed", [level], values, dtype="int8")
    with pytest.raises(TypeError, match=r"values of type float64 .*expected one dimension of int8"):
        Tensor((3, 20), "dense,compressed", [None, level], np.ones(4), dtype="int8")


@pytest.mark.parametrize("name", ["table", "words"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.astype(np.int64), "of type int64 and 1 dimensions: expected one dimension of"),
        (lambda a: a.astype(np.float64), "of type float64"),
        (lambda a: a.astype(np.uint16), "of type uint16"),
        (lambda a: a.astype(">u4"), "of type >u4"),
        (lambda a: a.reshape(1, -1), "of type uint32 and 2 dimensions"),
        (lambda a: a.tolist(), "is list: expected an ndarray"),
    ],
)
def test_level_arrays_are_of_uint32(name, change, message):
    """The chip reads their bytes."""
    arrays = {"table": u32(*PACKED), "words": u32(*WORDS)}
    arrays[name] = change(arrays[name])
    with pytest.raises(TypeError, match=f"level 1: {name} {message}"):
        Tensor(
            (3, 20), "dense,compressed", [None, CompressedLevel(**arrays)], np.ones(4, np.int8),
            dtype="int8",
        )  # fmt: skip


@pytest.mark.parametrize("other", [(u32(*PACKED), u32(*WORDS)), [[0], [1]], 5])
def test_a_level_of_another_type(other):
    with pytest.raises(TypeError, match=r"level 1: .*: expected a CompressedLevel or None"):
        Tensor((3, 20), "dense,compressed", [None, other], np.ones(4, np.int8), dtype="int8")


@pytest.mark.parametrize(
    ("shape", "levels", "message"),
    [
        ((1 << 20, 1 << 20), "dense,dense", "values: position 2 is past the end: there are 2"),
        ((1 << 20,) * 4, "dense,dense,dense,dense", "values: position 2 is past the end"),
        ((1 << 20, 1 << 20, 2), "dense,dense,compressed", "level 2: position table: position 1"),
        ((2,) + (1 << 20,) * 3, "compressed,dense,dense,dense", "values: position 2 is past"),
    ],
)
def test_dense_levels_larger_than_any_memory(shape, levels, message):
    level = CompressedLevel(u32(0, 0, 1), u32(word(0, 0b11)))
    arrays = [None if kind == "dense" else level for kind in levels.split(",")]
    with pytest.raises(ValueError, match=message):
        Tensor(shape, levels, arrays, np.ones(2, np.int8), dtype="int8")


def test_dense_levels_of_no_size_reach_nothing():
    for shape in ((0, 1 << 20), (1 << 20, 0)):
        assert Tensor(shape, "dense,dense", [None] * 2, np.ones(0, np.int8), dtype="int8").nnz == 0
