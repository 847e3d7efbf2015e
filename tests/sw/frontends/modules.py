"""Modules of PyTorch, and what NumPy computes of their graphs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils import _pytree as pytree  # noqa: E402

from loopnest.frontends.torch import from_torch  # noqa: E402
from loopnest.graph.graph import Graph  # noqa: E402


def agree(model: nn.Module, *inputs: Any, tolerance: float = 1e-5) -> Graph:
    """Check a graph's results against PyTorch's, relative to the largest one; return the graph."""
    graph = from_torch(model, inputs)
    with torch.no_grad():
        wanted = [t for t in pytree.tree_leaves(model.eval()(*inputs)) if t is not None]
    compare(graph, wanted, tolerance)
    return graph


def compare(graph: Graph, wanted: list[Any], tolerance: float = 1e-5) -> None:
    """Check a graph's results."""
    found = graph.evaluate()
    assert len(graph.outputs) == len(wanted)
    for name, want in zip(graph.outputs, wanted, strict=True):
        assert found[name].shape == tuple(want.shape), name
        expected = want.numpy()
        assert found[name].dtype == expected.dtype, name
        if expected.dtype.kind != "f":
            np.testing.assert_array_equal(found[name], expected, err_msg=name)
            continue
        scale = np.abs(expected[np.isfinite(expected)]).max(initial=1e-30)
        np.testing.assert_allclose(found[name], expected, 0, tolerance * scale, err_msg=name)


def operators(graph: Graph) -> list[str]:
    """Return the operators of a graph, in order."""
    return [node.operator for node in graph.nodes]


def called(graph: Graph) -> list[str]:
    """Return what PyTorch computes of it."""
    return [str(n.attributes["function"]) for n in graph.nodes if n.operator == "call"]


class Of(nn.Module):
    """A module that computes a function."""

    def __init__(self, function: Callable[..., Any], **held: Any) -> None:
        super().__init__()
        self.function = function
        for name, value in held.items():
            if isinstance(value, nn.Module | nn.Parameter):
                setattr(self, name, value)
            else:
                self.register_buffer(name, value)

    def forward(self, *inputs: Any) -> Any:
        return self.function(self, *inputs)


def drawn(*shape: int) -> Any:
    """Return drawn numbers."""
    return torch.randn(*shape)


def with_statistics(model: nn.Module) -> nn.Module:
    """Give batch normalisations means and variances that matter."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    return model
