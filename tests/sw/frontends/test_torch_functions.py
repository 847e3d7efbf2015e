"""Functions and layers of PyTorch as operators of graphs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import nn  # noqa: E402
from torch.utils import _pytree as pytree  # noqa: E402

from loopnest.frontends.torch import from_torch  # noqa: E402
from loopnest.graph.graph import Graph  # noqa: E402
from tests.sw.frontends.modules import (  # noqa: E402
    Of,
    agree,
    called,
    compare,
    drawn,
    with_statistics,
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(7)


def test_rows_that_attend_to_nothing_are_zero() -> None:
    mask = torch.ones(4, 4, dtype=torch.bool).tril()
    mask[0] = False
    model = Of(lambda self, q, k, v: F.scaled_dot_product_attention(q, k, v, self.mask), mask=mask)
    graph = agree(model, drawn(2, 4, 8), drawn(2, 4, 8), drawn(2, 4, 8))
    assert np.isfinite(graph.evaluate()[graph.outputs[0]]).all()


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "relu in place": lambda x: (x + 1).relu_(),
    "mean": lambda x: x.mean((1, 3)),
    "slice": lambda x: x[:, :3, ..., ::2] + x[:, -3:, ..., :-1:2].relu().sum(),
    "select": lambda x: x[0, ..., -1],
    "cat": lambda x: torch.cat([x, x * 2, x[:, :1]], 1),
    "stack": lambda x: torch.stack([x, -x], -1),
    "split": lambda x: [t * (n + 1) for n, t in enumerate(x.split([1, 3], 1))],
    "chunk": lambda x: x.chunk(3, -1)[1],
    "unbind": lambda x: x.unbind(1)[2],
    "zero padding": lambda x: F.pad(x, (1, 2, 0, 1)),
    "negative padding": lambda x: F.pad(x, (-1, 2), value=3.0),
    "reflection": lambda x: F.pad(x, (1, 1, 2, 2), mode="reflect"),
    "einsum": lambda x: torch.einsum("nchw,nkhw->nck", x, x),
    "views": lambda x: x.view(2, -1).unflatten(1, (4, 6, -1)).permute(2, 0, 1, 3).flatten(2),
    "squeeze": lambda x: x[:1, :, None].squeeze(),
    "expand": lambda x: x.mean(1, keepdim=True).expand(-1, 4, -1, -1) * x,
    "repeat": lambda x: x.repeat(2, 1, 1, 3),
    "tile": lambda x: x[0].tile(1, 2, 1),
    "assignment to a slice": lambda x: _assigned(x),
    "roll": lambda x: x.roll((1, -2), (2, 3)),
    "variance": lambda x: torch.cat([x.var(1), x.std(1, unbiased=False)]),
    "maximum": lambda x: [x.max(), x.amax((0, 2)), *x.max(1)],
    "minimum": lambda x: [x.min(), x.amin(-1)],
    "top-k": lambda x: list(x.topk(3, 2)),
    "argmax": lambda x: [x.argmax(), x.argmax(1, keepdim=True)],
    "cumsum": lambda x: x.cumsum(2),
    "powers": lambda x: x**2 + x**3 + x.abs() ** 0.5 + (x.abs() + 1) ** -1.5 + 2.0**x,
    "rsqrt": lambda x: torch.rsqrt(x.abs() + 1),
    "divisions": lambda x: x / 3 + 1 / (x.abs() + 2) + x / (x.abs() + 1),
    "integers": lambda x: (x * 10).int() / 4 + (x > 0).sum(1, keepdim=True),
    "comparisons": lambda x: [x > 0, x.eq(x), (x < 1) & ~(x <= -1) | (x >= 2), x != 0],
    "where": lambda x: torch.where(x > 0, x, 0.5) + x.masked_fill(x < 0, -2.0),
    "clamp": lambda x: x.clamp(-1, 0.5) + x.clamp(min=0) + x.clamp(max=x.mean()),
    "normalize": lambda x: F.normalize(x, dim=1),
    "log softmax": lambda x: F.log_softmax(x, 1),
    "softmax": lambda x: F.softmax(x, 1) + x.softmax(-1),
    "gelu": lambda x: F.gelu(x) + F.gelu(x, approximate="tanh"),
    "activations": lambda x: (
        F.leaky_relu(x) + F.elu(x) + F.softplus(x) + F.mish(x) + F.selu(x) + F.celu(x) + F.relu6(x)
    ),
    "hard activations": lambda x: F.hardtanh(x) + F.hardswish(x) + F.hardsigmoid(x),
    "glu": lambda x: F.glu(x, 1),
    "average pool": lambda x: (
        F.avg_pool2d(x, 3, 2, 1) + F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
    ),
    "average pool, last window cut": lambda x: F.avg_pool2d(x, (2, 4), ceil_mode=True),
    "average pool with a divisor": lambda x: F.avg_pool2d(x, 2, divisor_override=3),
    "max pool": lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    "max pool with its places": lambda x: list(F.max_pool2d(x, 2, return_indices=True)),
    "pools in one dimension": lambda x: [F.max_pool1d(x[0], 2), F.avg_pool1d(x[0], 3, 1, 1)],
    "adaptive pools": lambda x: [
        F.adaptive_avg_pool2d(x, (3, 2)),
        F.adaptive_avg_pool2d(x, (4, 5)),
        F.adaptive_max_pool2d(x, 1),
        F.adaptive_avg_pool1d(x[0], 4),
    ],
    "upsampling": lambda x: [
        F.interpolate(x, scale_factor=2),
        F.interpolate(x, scale_factor=1.7),
        F.interpolate(x[0], size=16),
        F.interpolate(x, scale_factor=2, mode="bilinear"),
    ],
    "pixel shuffle": lambda x: F.pixel_shuffle(x, 2),
    "indices": lambda x: x[:, [0, 2, -1]] + x.index_select(1, torch.tensor([1, 1, 0])),
    "several indices": lambda x: x[[0, 1], [2, 3]],
    "gather": lambda x: x.gather(1, x[:, :2].argmax(1, keepdim=True)),
    "scatter": lambda x: x.scatter(1, x[:, :2].argsort(1), -x[:, 2:]),
    "cumulative product": lambda x: x.cumprod(1),
    "product": lambda x: [x.prod(1), x[0, 0, :2].prod()],
    "rounding": lambda x: x.floor() + 2 * x.ceil() + 3 * x.round() + 4 * x.sign(),
    "remainders": lambda x: x % 0.75 + torch.fmod(x, 0.75),
    "sort": lambda x: [*x.sort(1), x.sort(-1, descending=True)[0], x.sort(dim=2, stable=True)[1]],
    "flip": lambda x: x.flip(-1),
    "triangle": lambda x: x.tril(),
    "double": lambda x: x.double() @ x.double().mT,
    "nothing known": lambda x: torch.zeros_like(x).new_full((2, 2), 3.0),
    "an input": lambda x: [x, x, None],
    "gradients off": lambda x: _without_gradients(x),
    "outer products": lambda x: x[0, 0, 0][:, None] * x[0, 0, 1] + torch.outer(*x[0, 0, :2]),
    "dot": lambda x: x[0, 0, 0] @ x[0, 0, 1] + (x[0, 0] @ x[0, 0, 0]).sum(),
    "baddbmm": lambda x: torch.baddbmm(x[0], x[0], x[0, :, :1].mT * x[0, :, :1], beta=0.5, alpha=2),
}


def _assigned(x: Any) -> Any:
    y = x.clone()
    y[:, 1:3] = 0
    y[:, 0] = x[:, 3]
    y[..., 2] *= 2
    return y


def _without_gradients(x: Any) -> Any:
    with torch.no_grad():
        y = x * 2
    return y + 1


ON_THE_HOST = {
    "activations": {"log1p", "expm1"},
    "adaptive pools": {"_adaptive_avg_pool2d"},
    "cumulative product": {"cumprod"},
    "max pool with its places": {"max_pool2d_with_indices"},
    "several indices": {"index"},
    "upsampling": {"upsample_nearest1d", "upsample_nearest2d", "upsample_bilinear2d"},
}


@pytest.fixture(scope="module")
def of_functions() -> dict[str, tuple[Graph, Any]]:
    """Graphs of all functions, and what PyTorch computes: exported at once, which takes seconds."""
    torch.manual_seed(7)
    x = drawn(2, 4, 6, 9)
    model = Of(lambda self, x: {name: function(x) for name, function in FUNCTIONS.items()})
    graph = from_torch(model, (x,))
    outputs = iter(graph.outputs)
    found = {}
    for name, wanted in model(x).items():
        tensors = [t for t in pytree.tree_leaves(wanted) if t is not None]
        own = tuple(next(outputs) for _ in tensors)
        needed, nodes = set(own), []
        for node in reversed(graph.nodes):
            if node.result in needed:
                nodes.insert(0, node)
                needed.update(node.inputs)
        found[name] = Graph(graph.inputs, graph.constants, tuple(nodes), own), tensors
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str, of_functions: dict[str, tuple[Graph, Any]]) -> None:
    graph, wanted = of_functions[name]
    compare(graph, wanted)
    assert {c.split(".")[1] for c in called(graph)} == ON_THE_HOST.get(name, set())


CONVOLUTIONS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "strided": (nn.Conv2d(4, 6, (3, 5), (2, 1), (1, 2)), (2, 4, 9, 8)),
    "dilated": (nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2), (2, 4, 9, 8)),
    "same": (nn.Conv2d(4, 6, 4, padding="same"), (2, 4, 9, 8)),
    "no batch": (nn.Conv2d(4, 6, 3), (4, 9, 8)),
    "one dimension": (nn.Conv1d(4, 6, 3, 2, padding=1), (2, 4, 9)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1), (2, 4, 5, 6)),
    "transposed, in groups": (nn.ConvTranspose2d(4, 6, 4, (2, 3), 1, groups=2), (1, 4, 5, 6)),
    "transposed, cut": (nn.ConvTranspose1d(4, 6, 2, 2, padding=3), (2, 4, 9)),
    "transposed, dilated": (nn.ConvTranspose1d(4, 6, 3, 2, dilation=2), (2, 4, 9)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str) -> None:
    model, shape = CONVOLUTIONS[name]
    assert not called(agree(model, drawn(*shape)))


def test_convolution_of_volumes_runs_on_the_host() -> None:
    graph = agree(nn.Sequential(nn.Conv3d(2, 3, 3), nn.ReLU()), drawn(1, 2, 5, 5, 5))
    assert called(graph) == ["aten.convolution.default"]
    assert str(graph.nodes[0]) == "0 (aten.convolution)"


def test_normalisations() -> None:
    for model, shape in [
        (nn.GroupNorm(2, 4), (2, 4, 5)),
        (nn.InstanceNorm2d(4, affine=True), (2, 4, 5, 5)),
        (with_statistics(nn.BatchNorm1d(4)), (3, 4)),
        (nn.LayerNorm((4, 5), bias=False), (2, 4, 5)),
        (nn.LayerNorm(5, elementwise_affine=False), (2, 4, 5)),
        (nn.RMSNorm(5, elementwise_affine=False), (2, 5)),
    ]:
        for parameter in model.parameters():
            nn.init.normal_(parameter)
        assert not called(agree(model, drawn(*shape)))
