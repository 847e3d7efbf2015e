"""Modules of PyTorch as graphs: what NumPy computes of the graph is what PyTorch computes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import nn  # noqa: E402
from torch.nn.utils import prune  # noqa: E402
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
    return [node.operator for node in graph.nodes]


def called(graph: Graph) -> list[str]:
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


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(7)


def drawn(*shape: int) -> Any:
    return torch.randn(*shape)


def test_mlp() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 3))
    graph = agree(model, drawn(4, 8))
    assert operators(graph) == ["linear", "relu", "linear"]
    assert list(graph.inputs) == ["input"]
    assert list(graph.constants) == ["0.weight", "0.bias", "3.weight", "3.bias"]
    assert [str(n) for n in graph.nodes] == ["0 (aten.linear)", "1 (aten.relu)", "3 (aten.linear)"]
    assert model.training is False  # as `agree` left it


def test_the_module_does_not_change() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.BatchNorm1d(4)).train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    graph = from_torch(model, (drawn(2, 4),))
    assert model.training
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    # weights are not copied either
    assert np.shares_memory(graph.constants["0.weight"], model[0].weight.detach().numpy())


class Block(nn.Module):
    """The basic block of a ResNet, with a shorter way that has a convolution."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.relu = nn.ReLU(inplace=True)
        self.down = nn.Sequential(
            nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters)
        )

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += self.down(x)
        return self.relu(y)


def with_statistics(model: nn.Module) -> nn.Module:
    """Give batch normalisations means and variances that matter."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    return model


def test_residual_network() -> None:
    model = with_statistics(
        nn.Sequential(
            nn.Conv2d(3, 8, 7, 2, 3, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
            Block(8, 12, 2),
            nn.AdaptiveAvgPool2d((1, 1)),
            nn.Flatten(),
            nn.Linear(12, 5),
        )
    )
    graph = agree(model, drawn(2, 3, 32, 32))
    kinds = ["conv", "mul", "add", "relu", "max_pool", "mean", "reshape", "linear"]
    assert set(operators(graph)) == set(kinds)
    # statistics are folded to one factor and one summand for each channel
    assert all(np.asarray(graph.constants[n.inputs[1]]).size in (8, 12) for n in graph.nodes
               if n.operator == "mul")  # fmt: skip


class Excite(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 4, 1)
        self.fc2 = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Any) -> Any:
        scale = F.adaptive_avg_pool2d(x, 1)
        return x * F.hardsigmoid(self.fc2(F.relu(self.fc1(scale))))


def test_depthwise_separable_blocks() -> None:
    model = with_statistics(
        nn.Sequential(
            nn.Conv2d(8, 16, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.Hardswish(),
            nn.Conv2d(16, 16, 5, (2, 1), 2, groups=16, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU6(),
            Excite(16),
            nn.Conv2d(16, 8, 1),
        )
    )
    graph = agree(model, drawn(1, 8, 12, 12))
    assert {"hardswish", "hardsigmoid", "clamp", "mean"} <= set(operators(graph))
    assert {n.attributes["groups"] for n in graph.nodes if n.operator == "conv"} == {1, 16}


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_transformer_encoder(norm_first: bool, batch_first: bool) -> None:
    model = nn.TransformerEncoderLayer(
        16, 4, 32, activation="gelu", norm_first=norm_first, batch_first=batch_first
    )
    graph = agree(model, drawn(2, 5, 16))
    assert operators(graph).count("linear") == 4
    assert operators(graph).count("matmul") == 2
    assert {"softmax", "layer_norm", "gelu"} <= set(operators(graph))
    assert not called(graph)
    assert torch.backends.mha.get_fastpath_enabled()


def test_transformer_encoder_with_padding() -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    model = Of(lambda self, x, pad: self.layer(x, src_key_padding_mask=pad), layer=layer)
    pad = torch.tensor([[False, False, False, True], [False, True, True, True]])
    assert not called(agree(model, drawn(2, 4, 16), pad))


def test_embedding_bags() -> None:
    model = Of(
        lambda self, ids, offsets: self.mlp(self.bag(ids, offsets)),
        bag=nn.EmbeddingBag(20, 8, mode="sum"),
        mlp=nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 1), nn.Sigmoid()),
    )
    graph = agree(model, torch.tensor([1, 5, 7, 2, 19]), torch.tensor([0, 2, 2]))
    assert operators(graph) == ["embedding_bag", "linear", "relu", "linear", "sigmoid"]
    ids = torch.randint(0, 20, (3, 4))
    assert operators(agree(nn.EmbeddingBag(20, 8, mode="mean"), ids))[-1] == "embedding_bag"
    last = nn.EmbeddingBag(20, 8, mode="mean", include_last_offset=True)
    assert not called(agree(last, torch.arange(6), torch.tensor([0, 4, 6])))
    biggest = agree(nn.EmbeddingBag(20, 8, mode="max"), ids)
    assert called(biggest) == ["aten.embedding_bag.padding_idx"]


def test_recurrent_cells() -> None:
    step = Of(lambda self, x, h, c: self.cell(x, (h, c)), cell=nn.LSTMCell(6, 8))
    assert not called(agree(step, drawn(2, 6), drawn(2, 8), drawn(2, 8)))
    assert not called(agree(nn.LSTM(6, 8, num_layers=2), drawn(4, 2, 6)))
    assert not called(agree(nn.GRU(6, 8, bidirectional=True), drawn(3, 2, 6)))


class Attention(nn.Module):
    """Attention with rotary positions and shared keys and values, as in Llama."""

    def __init__(self, width: int, heads: int, shared: int, own: bool) -> None:
        super().__init__()
        self.heads, self.shared, self.size, self.own = heads, shared, width // heads, own
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, shared * self.size, bias=False)
        self.v = nn.Linear(width, shared * self.size, bias=False)
        self.o = nn.Linear(width, width, bias=False)

    def rotated(self, x: Any) -> Any:
        length = x.shape[-2]
        rates = 10000 ** (-torch.arange(0, self.size, 2) / self.size)
        angles = torch.arange(length)[:, None] * rates
        angles = torch.cat([angles, angles], -1)
        a, b = x.chunk(2, -1)
        return x * angles.cos() + torch.cat([-b, a], -1) * angles.sin()

    def forward(self, x: Any) -> Any:
        n, length, width = x.shape
        q = self.q(x).view(n, length, self.heads, self.size).transpose(1, 2)
        k = self.k(x).view(n, length, self.shared, self.size).transpose(1, 2)
        v = self.v(x).view(n, length, self.shared, self.size).transpose(1, 2)
        q, k = self.rotated(q), self.rotated(k)
        if self.own:
            k = k.repeat_interleave(self.heads // self.shared, 1)
            v = v.repeat_interleave(self.heads // self.shared, 1)
            scores = q @ k.transpose(-1, -2) / self.size**0.5
            mask = torch.full((length, length), float("-inf")).triu(1)
            y = F.softmax(scores + mask, -1) @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.o(y.transpose(1, 2).reshape(n, length, width))


class Norm(nn.Module):
    """RMS normalisation as Transformers writes it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width))

    def forward(self, x: Any) -> Any:
        wide = x.to(torch.float32)
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)
        return self.weight * wide.to(x.dtype)


class Llama(nn.Module):
    """A block of a language model."""

    def __init__(self, own: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(24, 1e-6), Norm(24)
        self.attention = Attention(24, 6, 2, own)
        self.gate, self.up = nn.Linear(24, 40, bias=False), nn.Linear(24, 40, bias=False)
        self.down = nn.Linear(40, 24, bias=False)

    def forward(self, x: Any) -> Any:
        x = x + self.attention(self.norm1(x))
        y = self.norm2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


@pytest.mark.parametrize("own", [False, True], ids=["sdpa", "spelled out"])
def test_language_model_block(own: bool) -> None:
    graph = agree(Llama(own), drawn(2, 7, 24))
    assert not called(graph)
    assert {"silu", "softmax"} <= set(operators(graph))
    assert operators(graph).count("rms_norm") == 2
    # positions and masks do not depend on the inputs
    assert not {"cos", "sin", "compare", "gather"} & set(operators(graph))


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
