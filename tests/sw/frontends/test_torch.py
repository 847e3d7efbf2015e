"""Networks of PyTorch as graphs: what NumPy computes of the graph is what PyTorch computes."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import nn  # noqa: E402

from loopnest.frontends.torch import from_torch  # noqa: E402
from tests.sw.frontends.modules import (  # noqa: E402
    Of,
    agree,
    called,
    drawn,
    operators,
    with_statistics,
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(7)


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
    biggest = agree(nn.EmbeddingBag(20, 8, mode="max", padding_idx=3), ids)
    assert operators(biggest)[-1] == "embedding_bag"
    padded = nn.EmbeddingBag(20, 8, mode="mean", padding_idx=-1)
    assert not called(agree(padded, torch.tensor([[19, 1, 2], [19, 19, 19], [0, 1, 19]])))
    weighted = Of(
        lambda self, ids, offsets, weights: self.bag(ids, offsets, per_sample_weights=weights),
        bag=nn.EmbeddingBag(20, 8, mode="sum", padding_idx=2),
    )
    given = torch.tensor([1, 5, 7, 2, 19]), torch.tensor([0, 2, 2]), drawn(5)
    assert operators(agree(weighted, *given)) == ["embedding_bag"]


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
