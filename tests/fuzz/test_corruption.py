"""Some of the corrupted kernels of `make fuzz`, and seeds that it found: each failed once."""

from collections import Counter

import pytest

from tests.fuzz.corruption import run_seed
from tests.rtl.chips import TWO_PORTS, Pair, on

CASES = 45

FOUND = {
    "lanes of no fiber, kept in the second of two blocks": (1901602, "right"),
    "an overlong fiber is read on, to a fault of another kind": (1903691, "tensor"),
    "a table over the epilogue's scales": (1901198, "right"),
    "a word of a table that no fiber's entry replaces": (1901382, "right"),
    "a table over an operand's values": (1901661, "right"),
    "a corrupted word of a table, and of the descriptor": (1902422, "right"),
}

REFUSED = "bad_descriptor"
ELSEWHERE = {(TWO_PORTS, 1903691)}
"""Seeds that corrupt another field of this chip's descriptor, which is refused."""


@on("shrunk/int8", TWO_PORTS, "single/bf16")
def test_corruption(pair: Pair) -> None:
    ended = Counter(run_seed(pair, seed) for seed in range(CASES))
    # Many corrupted bits are not used by the kernel, but some must cause errors.
    assert ended["right"] < 0.9 * CASES
    assert len(ended) > 4


@pytest.mark.parametrize("name", FOUND)
@on("shrunk/int8", TWO_PORTS)
def test_found(pair: Pair, name: str) -> None:
    seed, ended = FOUND[name]
    assert run_seed(pair, seed) == (REFUSED if (pair.name, seed) in ELSEWHERE else ended)
