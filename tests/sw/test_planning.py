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
from tests.rtl.chips import Bits

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


@pytest.mark.parametrize("density", [0.4, 0.1, 0.01])
def test_the_order_with_a_cache_lets_pes_share_the_rows(density):
    """The order does not depend on their number."""
    A = sp.random_array((200, 200), density=density, rng=1, format="csr")
    for fields in ({"pes": 1}, {"pes": 1, "cache": 1}, {"pes": 4}, {"pes": 16}):
        chip = Chip("single", backend="model", **fields)
        plan, by_rows, by_columns = (
            chip.explain("y[i] = A[i,j] * x[j]", A=A, x=np.ones(200), order=order).plans[0]
            for order in (None, "ij", "ji")
        )
        assert by_rows.result.shared("i") and not by_columns.result.shared("j")
        assert by_columns.alone < by_rows.alone
        assert plan.loops == (by_rows if chip.config.cached else by_columns).loops


def test_several_pes_share_the_cycles():
    """What the plan expects is for the chip, as far as they share the rows, and the ports write."""
    A = np.ones((128, 128))

    def plan(statement, order, **fields):
        return (
            Chip("small", backend="model", **fields).explain(statement, order=order, A=A).plans[0]
        )

    one, four, many = (plan("C[i,k] = A[i,j] * A[j,k]", "ijk", pes=n) for n in (1, 4, 32))
    assert one.alone == one.cycles == four.alone == many.alone
    assert one.cycles / 4 < four.cycles < one.cycles / 3.8
    # each PE has a 32nd of the work, but all results leave by one port
    copies = [plan("C[i,j] = 2 * A[i,j]", "ij", pes=n) for n in (16, 32)]
    assert copies[0].cycles == copies[1].cycles > copies[0].expected.stages["write"]
    alone = plan("s = A[i,j]", "ij", pes=4)
    assert alone.cycles == alone.alone


def test_any_number_of_pes_behind_a_cache_computes_the_same_bits():
    """Of sums in fp32, whose last bits depend on the order."""
    rng = np.random.default_rng(2)
    A = sp.random_array((150, 90), density=0.1, rng=1, data_sampler=rng.standard_normal)
    operands = {"A": A, "B": A.T.tocsr(), "x": rng.standard_normal(90), "m": rng.random(150) < 0.3}
    chips = [Chip("small", backend="model", pes=pes) for pes in (1, 4, 16)]
    for statement in (
        "y[i] = A[i,j] * x[j]",
        "z[j] = A[i,j] * B[j,i]",
        "C[i,k] = A[i,j] * B[j,k]",
        "s = A[i,j] * x[j]",
        "y[i] = A[i,j] * x[j] where m[i]",
    ):
        used = {name: array for name, array in operands.items() if f"{name}[" in statement}
        first, *others = (Bits(chip.compute(statement, **used)) for chip in chips)
        assert all(bits == first for bits in others)
