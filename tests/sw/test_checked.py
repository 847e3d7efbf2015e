"""What examples have in common: runs that are compared, and dense runs."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest.examples import gcn, graphchallenge
from loopnest.examples.checked import Checked, same_bits


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
def test_same_bits(kind: Any) -> None:
    one = kind(np.array([[0, 1.5], [2, 0]], np.float32))
    other = kind(np.array([[0, 1.5], [-2, 0]], np.float32))
    assert same_bits(one, one.copy()) and not same_bits(one, other)


def test_elsewhere_is_not_the_same() -> None:
    one, other = (sp.csr_array(([1.0], ([0], [c])), (1, 2)) for c in (0, 1))
    assert not same_bits(one, other)


def test_errors() -> None:
    run: Any = Checked(SimpleNamespace(), SimpleNamespace(), {"y": np.array([1.0, 2.1])})  # type: ignore[type-var]
    assert np.isclose(run.error({"y": np.array([1.0, 2.08])}), 0.02 / 2.08) and not run.problems
    assert run.error({"y": np.array([1.0, 2.0])}) > 0.03
    assert run.problems == ["the results differ from those of float32 by 5.0%"]


class Counting:
    """Stands for a chip that takes a cycle for each multiply."""

    def tensor(self, array: Any, levels: str) -> Any:
        assert levels == "dense,dense"
        return array

    def compute(self, statement: str, epilogue: Any = None, **operands: Any) -> None:
        left, right = operands.values()
        cycles = left.shape[0] * left.shape[1] * right.shape[1]
        self.report = SimpleNamespace(cycles=cycles)
        self.computed = getattr(self, "computed", 0) + cycles


def test_dense_cycles_by_a_part_and_of_all() -> None:
    """A rate gives what is measured, where cycles are proportional."""
    layers = graphchallenge.draw_network(3, 20)
    papers = gcn.train(gcn.draw_papers(300, 210), lambda: None)
    for module, network in ((graphchallenge, layers), (gcn, papers)):
        parts, whole = Counting(), Counting()
        some = module.dense_cycles(parts, network, measured=False)  # type: ignore[attr-defined]
        measured = module.dense_cycles(whole, network, measured=True)  # type: ignore[attr-defined]
        assert np.allclose(some, measured)
        assert parts.computed < whole.computed == np.sum(measured)
