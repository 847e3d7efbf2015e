"""Planning many orders and storages: nothing is counted twice, and the cheapest plan is found."""

from itertools import permutations

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest import Chip
from loopnest.cost import counts
from loopnest.expression.operand import Operand
from loopnest.expression.parser import parse
from loopnest.loops.plan import Candidate
from loopnest.loops.planner import make_plan
from loopnest_hw.config import make_config

CONFIG = make_config("single")
PRUNED = [
    ("M[i,r] = T[i,j,k] * B[j,r] * C[k,r]", {"T": (12, 20, 15), "B": (20, 16), "C": (15, 16)}),
    ("Y[i,l] = A[i,j] * B[j,k] * C[k,l]", {"A": (20, 30), "B": (30, 20), "C": (20, 40)}),
    ("Y[i,j] = A[i,j] + B[i,j] * c[j]", {"A": (20, 40), "B": (20, 40), "c": (40,)}),
]


def pruned(shapes: dict[str, tuple[int, ...]], share: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {n: rng.integers(1, 4, s) * (rng.random(s) < share) for n, s in shapes.items()}


@pytest.mark.parametrize("share", [0.1, 0.6])
@pytest.mark.parametrize(("text", "shapes"), PRUNED)
def test_the_pick_is_the_cheapest_of_all_orders(text, shapes, share):
    statement, arrays = parse(text), pruned(shapes, share)

    def plan(**options):
        operands = [Operand(a.name, arrays[a.name], CONFIG.dtype) for a in statement.accesses]
        return make_plan(CONFIG, statement, operands, compressed=False, skip_zeros=True, **options)

    each = [plan(order=loops) for loops in permutations(statement.indices)]
    least = min((not one.fits, one.score) for one in each)
    got = plan()
    assert (not got.fits, got.score) == pytest.approx(least, rel=1e-9)


def test_joins_are_counted_once(monkeypatch):
    """Of 8 storages in 24 orders each, those that may be the cheapest are planned, and the orders
    of a storage share what they count.
    """
    counted, planned = [], []
    total, make = counts.total, Candidate.plan
    monkeypatch.setattr(counts, "total", lambda *a: counted.append(1) or total(*a))
    monkeypatch.setattr(Candidate, "plan", lambda *a: planned.append(1) or make(*a))
    text, shapes = PRUNED[0]
    statement, arrays = parse(text), pruned(shapes, 0.1)
    operands = [Operand(a.name, arrays[a.name], CONFIG.dtype) for a in statement.accesses]
    make_plan(CONFIG, statement, operands, compressed=False, skip_zeros=True)
    assert 24 < len(planned) < 8 * 24 * 0.6
    assert len(counted) < 12 * len(planned)


@pytest.mark.parametrize(
    ("density", "loops"),
    [(0.4, ("i", "j")), (0.1, ("j", "i"))],
)
def test_a_shared_outermost_loop_is_picked_if_it_costs_little_more(density, loops):
    """The order does not depend on their number."""
    A = sp.random_array((200, 200), density=density, rng=1, format="csr")
    for pes in (1, 4):
        chip = Chip("single", backend="model", pes=pes)
        plan, by_rows, by_columns = (
            chip.explain("y[i] = A[i,j] * x[j]", A=A, x=np.ones(200), order=order).plans[0]
            for order in (None, "ij", "ji")
        )
        assert by_rows.result.shared("i") and not by_columns.result.shared("j")
        assert by_columns.cycles < by_rows.cycles and plan.loops == loops
        assert (by_rows.cycles < 1.1 * by_columns.cycles) == (loops == by_rows.loops)
