"""Parameters, inputs and outputs of modules of PyTorch, and modules that are refused."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import nn  # noqa: E402
from torch.nn.utils import prune  # noqa: E402

from loopnest.frontends.torch import from_torch  # noqa: E402
from tests.sw.frontends.modules import Of, agree, drawn, operators  # noqa: E402


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(7)


def sparse_weight() -> Any:
    return drawn(6, 8) * (torch.rand(6, 8) < 0.3)


def test_sparse_parameters_stay_sparse() -> None:
    weight = sparse_weight()

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.coo = nn.Parameter(weight.to_sparse(), requires_grad=False)
            self.csr = nn.Parameter(weight.to_sparse_csr(), requires_grad=False)
            self.bsr = nn.Parameter(weight.to_sparse_bsr((2, 2)), requires_grad=False)
            self.register_buffer("csc", weight.to_sparse_csc())
            self.adjacency = weight.to_sparse_csr()

        def forward(self, x: Any) -> Any:
            return (
                F.linear(x, self.csr),
                torch.sparse.mm(self.coo, x.T),
                F.linear(x, self.bsr),
                self.adjacency @ x.T,
                x @ self.csc.T,
            )

    model = Model()
    x = drawn(4, 8)
    graph = from_torch(model, (x,))
    found = graph.evaluate()
    product = (x @ weight.T).numpy()
    for name in graph.outputs:
        got = found[name] if found[name].shape == product.shape else found[name].T
        np.testing.assert_allclose(got, product, atol=1e-5)
    formats = {n.split(".")[0]: type(c) for n, c in graph.constants.items() if sp.issparse(c)}
    assert formats["csr"] is sp.csr_array and formats["bsr"] is sp.bsr_array
    assert formats["adjacency"] is sp.csr_array
    assert set(formats) == {"coo", "csr", "bsr", "csc", "adjacency"}
    assert model.csr.layout == torch.sparse_csr


def test_masks_of_pruning_are_applied() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    prune.l1_unstructured(model[0], "weight", 0.5)
    prune.random_structured(model[2], "weight", 0.25, dim=0)
    prune.l1_unstructured(model[2], "bias", 2)
    graph = agree(model, drawn(2, 8))
    assert operators(graph) == ["linear", "relu", "linear"]
    assert np.count_nonzero(graph.constants["0.weight"] == 0) == 32
    assert prune.is_pruned(model) and hasattr(model[0], "weight_orig")


def test_parametrisations_are_folded() -> None:
    class Mask(nn.Module):
        def forward(self, weight: Any) -> Any:
            return weight * (weight > 0)

    model = nn.Linear(8, 8)
    nn.utils.parametrize.register_parametrization(model, "weight", Mask())
    graph = agree(model, drawn(2, 8))
    assert operators(graph) == ["linear"]


def test_shared_weights_are_one_constant() -> None:
    model = nn.Sequential(nn.Embedding(10, 6), nn.Linear(6, 10, bias=False))
    model[1].weight = model[0].weight
    graph = agree(model, torch.tensor([[1, 2, 3]]))
    assert len(graph.constants) == 1


def test_half_precision_is_float32_in_graphs() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.GELU()).bfloat16()
    x = drawn(2, 8).bfloat16()
    graph = from_torch(model, (x,))
    assert {c.dtype.name for c in [*graph.constants.values(), *graph.inputs.values()]} == {
        "float32"
    }
    found = graph.evaluate()[graph.outputs[0]]
    np.testing.assert_allclose(found, model(x).detach().float(), atol=2e-2)


def test_inputs_by_name_and_nested() -> None:
    class Model(nn.Module):
        def forward(self, first: Any, pair: Any, scale: float = 1.0, extra: Any = None) -> Any:
            assert extra is None
            return {"sum": first + pair["a"] * scale, "difference": pair["b"] - first}

    inputs = {"first": drawn(3), "pair": {"a": drawn(3), "b": drawn(3)}, "scale": 2.0}
    graph = from_torch(Model(), inputs)
    assert list(graph.inputs) == ["first", "pair_a", "pair_b"]
    found = list(graph.evaluate().values())
    np.testing.assert_allclose(found[0], inputs["first"] + 2 * inputs["pair"]["a"])
    assert graph.outputs == ("add", "sub")


def test_other_inputs() -> None:
    model = Of(lambda self, x: x * 2)
    graph = from_torch(model, (np.ones(3, np.float32),))
    other = graph.evaluate({graph_input: np.arange(3) for graph_input in graph.inputs})
    assert list(other[graph.outputs[0]]) == [0, 2, 4]


def test_exported_programs() -> None:
    model = nn.Linear(4, 2).eval()
    x = drawn(3, 4)
    program = torch.export.export(model, (x,))
    graph = from_torch(program)
    np.testing.assert_allclose(graph.evaluate()[graph.outputs[0]], model(x).detach(), rtol=1e-5)
    free = torch.export.export(
        model, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=2, max=64)},)
    )
    with pytest.raises(ValueError, match="input input: dimension 0 is dynamic: expected example"):
        from_torch(free)
    bound = from_torch(free, (drawn(7, 4),))
    assert bound.evaluate()[bound.outputs[0]].shape == (7, 2)


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: Any) -> Any:
        self.count += 1
        return x * self.count


def _refused() -> list[Any]:
    x = torch.ones(3)
    train = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout()).train()
    return [
        (Counter(), (x,), ValueError, "count: the model changes a buffer as it runs"),
        (Of(lambda self, x: x.add_(1)), (x,), ValueError, "inputs_0: the model changes an input"),
        (Of(lambda self, x: x[x > 0]), (x,), ValueError, "aten.*depends on values"),
        (Of(lambda self, x: x * 2 if x.sum() > 0 else x), (x,), ValueError, "refuses Of: "),
        (Of(lambda self, x: x + torch.rand(3)), (x,), ValueError, "random numbers"),
        (Of(lambda self, x: x), x, TypeError, "expected a tuple of example inputs"),
        (Of(lambda self, x: x), None, TypeError, "expected a tuple of example inputs"),
        (Of(lambda self, x: x @ x.T), (torch.eye(3).to_sparse(),), ValueError, "a sparse input"),
        (torch.relu, (x,), TypeError, "expected a Module or an ExportedProgram"),
        (
            torch.export.export(train, (torch.ones(2, 3),)),
            None,
            ValueError,
            r"model\.eval\(\)",
        ),
        (
            Of(lambda self, x: torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,))),
            (x,),
            ValueError,
            "without control flow|control flow: expected none",
        ),
    ]


@pytest.mark.parametrize("number", range(11))
def test_refused(number: int) -> None:
    model, inputs, error, message = _refused()[number]
    with pytest.raises(error, match=message):
        from_torch(model, inputs)


def test_a_call_names_its_operator() -> None:
    model = Of(lambda self, x, places: x.take(places))
    graph = from_torch(model, (drawn(3), torch.tensor([2, 0])))
    with pytest.raises(ValueError, match=r"aten\.index: index 3 is out of bounds"):
        graph.evaluate(dict(graph.inputs) | {"inputs_1": np.array([3, 0])})
