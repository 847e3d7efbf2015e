"""Copies of a key: which leaf fiber adds to which copy, and the order in which they are added."""

import numpy as np
import pytest

from loopnest_hw.config import make_config
from loopnest_hw.descriptor import pack, unpack
from loopnest_sim.model.faults import Faults
from loopnest_sim.model.leaf import Terms
from loopnest_sim.model.nest import Nest, Tokens
from loopnest_sim.model.sums import Sums

CONFIG = make_config()
HUGE = np.float32(2.0**30)
"""A value to which adding 1 changes nothing."""


def nest(copies: int, **fields: int) -> Nest:
    """Return a nest whose result fibers end with a stop of 1."""
    d = {"accumulate": 1, "copies": copies, "drain_stop": 2, **fields}
    return Nest.of(CONFIG, unpack(CONFIG, pack(CONFIG, d)))


def tokens(present: list[int], stop: list[int]) -> Tokens:
    n = len(present)
    words = np.zeros(n, np.uint32)
    fiber = np.cumsum(np.concatenate([[0], np.array(stop[:-1]) > 0])).astype(np.uint32)
    return Tokens([words], np.array(present, np.uint8), fiber, words, np.array(stop, np.uint8))


def run(copies: int, value: list[float], stop: list[int], present: list[int], chunk: int) -> list:
    """Return the result fibers' sums; every leaf fiber that is not null has a term of key 37."""
    sums = Sums(nest(copies), Faults())
    found = []
    for at in range(0, len(value), chunk):
        part = tokens(present, stop).part(at, at + chunk)
        token = np.flatnonzero(part.present)
        key = np.full(len(token), 37, np.uint32)
        own = np.array(value[at : at + chunk], np.float32)[token]
        done = sums.feed(part, Terms(token, np.ones(len(token), np.uint8), key, own))
        assert (done.key == 37).all()
        found += done.value.tolist()
    found += sums.finish().value.tolist()
    return found


@pytest.mark.parametrize("chunk", [1, 3, 10])
def test_leaf_fibers_take_turns(chunk: int) -> None:
    value = [HUGE, 1, -HUGE, 1, 5, HUGE, 3, -HUGE]
    stop = [0, 0, 0, 1, 0, 0, 0, 0]
    full = [1] * 8
    # one after the other: the ones are swallowed, and 5 and 3 as well
    assert run(0, value, stop, full, chunk) == [1, 0]
    # (HUGE - HUGE) + (1 + 1) and (5 + 3) + (HUGE - HUGE): each result fiber begins at copy 0
    assert run(1, value, stop, full, chunk) == [2, 8]
    # ((HUGE + 1) - HUGE) + 1 and ((5 + HUGE) + 3) - HUGE
    assert run(2, value, stop, full, chunk) == [1, 0]


@pytest.mark.parametrize("chunk", [1, 3, 10])
def test_null_tokens_take_no_turn(chunk: int) -> None:
    value = [HUGE, 0, 1, 0, -HUGE, 1, 0]
    present = [1, 0, 1, 0, 1, 1, 0]
    assert run(1, value, [0] * 6 + [1], present, chunk) == [2]


def test_keys_have_fewer_bits() -> None:
    sums = Sums(nest(2), Faults())
    part = tokens([1, 1], [0, 1])
    key = np.array([3 << 18 | 37, 37], np.uint32)
    done = sums.feed(
        part, Terms(np.array([0, 1]), np.ones(2, np.uint8), key, np.array([1, 2], np.float32))
    )
    assert (done.key.tolist(), done.value.tolist()) == ([37], [3])
