"""The hash functions: how evenly they spread keys."""

import random

import numpy as np
import pytest

from loopnest_hw.accumulate.hashing import columns, set_of
from loopnest_hw.accumulate.place import TABLES, WAYS

INPUTS = 20


def rank(vectors: list[int]) -> int:
    """Return the rank of vectors over GF(2)."""
    found: list[int] = []
    for vector in vectors:
        for other in found:
            vector = min(vector, vector ^ other)
        if vector:
            found.append(vector)
    return len(found)


@pytest.mark.parametrize("bits", range(1, 15))
def test_strides(bits: int) -> None:
    """Keys at a stride of a power of two are in different sets, as many as there are sets; and in
    different pairs of sets, as many as there are pairs.
    """
    tables = [columns(INPUTS, bits, table) for table in range(TABLES)]
    for table in tables:
        for n in range(INPUTS - bits + 1):
            assert rank(list(table[n : n + bits])) == bits
    if bits < 3:
        return
    both = [a | b << bits for a, b in zip(*tables, strict=True)]
    length = min(2 * bits, INPUTS)
    for n in range(INPUTS - length + 1):
        assert rank(both[n : n + length]) == length


def test_a_set() -> None:
    """It is the sum modulo 2 of the columns of the key's bits."""
    rng = random.Random(1)
    for _ in range(100):
        a, b = rng.getrandbits(INPUTS), rng.getrandbits(INPUTS)
        for table in range(TABLES):
            sets = [set_of(key, INPUTS, 7, table) for key in (a, b, a ^ b)]
            assert sets[0] ^ sets[1] == sets[2]
        assert set_of(1 << 5, INPUTS, 7, 0) == columns(INPUTS, 7, 0)[5]


@pytest.mark.parametrize("stride", [1, 3, 32, 137, 128])
def test_few_tags_are_displaced(stride: int) -> None:
    """512 slots in use all the time, by 16 fibers with columns at a stride; 10,000 insertions."""
    rng = np.random.default_rng(stride)
    bits, slots, contexts = 7, 512, 16
    free = np.full((TABLES, 1 << bits), WAYS)
    fibers: list[list[tuple[int, int]]] = []
    displaced = inserted = 0
    for context in range(320):
        if len(fibers) == contexts:
            for table, set_ in fibers.pop(0):
                free[table, set_] += 1
        tags = []
        span = (1 << 16) // stride
        for block in stride * rng.choice(span, slots // contexts, replace=False):
            key = int(block) | context % contexts << 16
            sets = [set_of(key, INPUTS, bits, table) for table in range(TABLES)]
            table = int(free[1, sets[1]] > free[0, sets[0]])
            inserted += 1
            if not free[table, sets[table]]:
                displaced += 1
                continue
            free[table, sets[table]] -= 1
            tags.append((table, sets[table]))
        fibers.append(tags)
    assert inserted > 10_000
    assert displaced <= inserted / 500
