"""Fusing indices: all ways, and the one that is expected to take the fewest cycles."""

from collections.abc import Sequence

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Chip
from loopnest.contraction import price
from loopnest.expression.fuse import MAX_FUSIONS, find_fusions
from loopnest.expression.parser import parse
from loopnest.loops.plan import CONVERTING

SIDES = {"i": 100, "j": 20, "k": 25, "l": 40, "m": 4, "n": 8}
LARGE = SIDES | {"i": 30, "j": 2000, "k": 2500, "l": 40}


def groups(text: str, sizes: dict[str, int]) -> list[tuple[str, ...]]:
    found = find_fusions(parse(text), sizes)
    return [tuple("".join(group) for group in fusion.groups) for fusion in found]


def test_all_ways_to_fuse_indices():
    assert groups("Y[i,n] = T[i,j,k,l] * S[j,k,l,n]", SIDES) == [
        ("jkl",), ("jk",), ("jl",), ("kl",)
    ]  # fmt: skip
    # j and k have more coordinates than a loop
    assert groups("Y[i,n] = T[i,j,k,l] * S[j,k,l,n]", LARGE) == [("jl",), ("kl",)]
    assert groups("Y[i,j] = T[i,k] * S[k,j]", SIDES) == []
    many = groups("Y[i,j,m,n] = T[i,j,k,l] * S[k,l,m,n]", SIDES)
    assert many[0] == ("ij", "mn", "kl") and len(many) == 7 <= MAX_FUSIONS


def coo(
    rng: np.random.Generator, indices: str, sizes: dict[str, int], entries: int
) -> sp.coo_array:
    shape = tuple(sizes[i] for i in indices)
    at = np.unravel_index(rng.choice(np.prod(shape), entries, replace=False), shape)
    return sp.coo_array((rng.integers(1, 4, entries) * 1.0, at), shape)


@pytest.mark.parametrize(
    ("text", "sizes", "others"),
    [
        ("Y[i,j,m,n] = T[i,j,k,l] * S[k,l,m,n]", SIDES, 0),
        ("Y[i,n] = T[i,j,k,l] * S[j,k,l,n]", LARGE, 3000),
    ],
)
def test_the_way_with_the_fewest_cycles(monkeypatch, text, sizes, others):
    rng = np.random.default_rng(1)
    statement = parse(text)
    shape = tuple(sizes[i] for i in statement.accesses[1].indices)
    T = coo(rng, "ijkl", sizes, 2000)
    S = coo(rng, statement.accesses[1].indices, sizes, others) if others else rng.random(shape)
    chip = Chip(backend="model", dtype="bf16")

    def cycles() -> float:
        return sum(plan.cycles for plan in chip.explain(text, T=T, S=S).plans)

    picked, each = cycles(), []
    ways = find_fusions(statement, sizes)
    for way in ways:
        only: Sequence = [way]
        monkeypatch.setattr(
            price,
            "find_fusions",
            lambda s, sizes, only=only: only if s == statement else find_fusions(s, sizes),
        )
        each.append(cycles())
    # the kernel's order counts what the host stores in another order, a fusion does not
    assert min(each) <= picked <= (1 + CONVERTING) * min(each)
    assert picked < max(each)


def test_the_result_is_that_of_numpy():
    rng = np.random.default_rng(2)
    sizes = SIDES | {"i": 12, "l": 5}
    T, S = coo(rng, "ijkl", sizes, 300), rng.integers(1, 4, (25, 5, 4, 8)) * 1.0
    chip = Chip(backend="model", dtype="bf16")
    got = chip.compute("Y[i,j,m,n] = T[i,j,k,l] * S[k,l,m,n]", T=T, S=S)
    assert np.array_equal(got, np.einsum("ijkl,klmn->ijmn", T.toarray(), S))
