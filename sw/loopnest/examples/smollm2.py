"""SmolLM2 in PyTorch, with the weights and the vocabulary of its GGUF file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..frontends.extras import require
from ..frontends.weights import load_weights


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The sizes of a network; the defaults are those of SmolLM2-135M.

    Attributes
    ----------
    shared : int
        Heads of the keys and values, each for several of the queries.
    words : int
        Of the vocabulary.
    theta : float
        The base of the rotary positions.
    """

    blocks: int = 30
    width: int = 576
    hidden: int = 1536
    heads: int = 9
    shared: int = 3
    words: int = 49_152
    theta: float = 100_000.0
    epsilon: float = 1e-5

    @property
    def head(self) -> int:
        """The width of a head."""
        return self.width // self.heads


class Block(nn.Module):
    """Attention and MLP, each behind a normalisation and added to what they are applied to.

    Parameters
    ----------
    first, tokens : int
        The positions of the tokens that it is called with: these many, from the first one on.
    """

    cosines: Tensor
    sines: Tensor

    def __init__(self, sizes: Sizes, first: int, tokens: int) -> None:
        super().__init__()
        self.head = sizes.head
        width, shared = sizes.width, sizes.shared * sizes.head
        self.attention_norm = nn.RMSNorm(width, sizes.epsilon)
        self.queries = nn.Linear(width, width, bias=False)
        self.keys = nn.Linear(width, shared, bias=False)
        self.values = nn.Linear(width, shared, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.RMSNorm(width, sizes.epsilon)
        self.gate = nn.Linear(width, sizes.hidden, bias=False)
        self.up = nn.Linear(width, sizes.hidden, bias=False)
        self.down = nn.Linear(sizes.hidden, width, bias=False)
        with torch.device("cpu"):
            cosines, sines = rotations(sizes, first, tokens)
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("sines", sines, persistent=False)

    def forward(
        self, x: Tensor, keys: Tensor | None = None, values: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the result for x (batch, tokens, width), and the keys and values of all tokens so
        far (batch, shared heads, tokens, head); given are those of the tokens before.
        """
        normal = self.attention_norm(x)
        query = self._rotated(self._heads(self.queries(normal)))
        key = self._rotated(self._heads(self.keys(normal)))
        value = self._heads(self.values(normal))
        if keys is not None and values is not None:
            key, value = torch.cat((keys, key), -2), torch.cat((values, value), -2)
        found = functional.scaled_dot_product_attention(
            query, key, value, is_causal=keys is None, enable_gqa=True
        )
        x = x + self.output(found.transpose(1, 2).flatten(-2))
        normal = self.mlp_norm(x)
        x = x + self.down(functional.silu(self.gate(normal)) * self.up(normal))
        return x, key, value

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head)).transpose(1, 2)

    def _rotated(self, x: Tensor) -> Tensor:
        return x * self.cosines + x.roll(self.head // 2, -1) * self.sines


class Network(nn.Module):
    """The whole network, without a cache; ``tokens`` is how many it is called with."""

    def __init__(self, sizes: Sizes, tokens: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(sizes.words, sizes.width)
        self.blocks = nn.ModuleList(Block(sizes, 0, tokens) for _ in range(sizes.blocks))
        self.norm = nn.RMSNorm(sizes.width, sizes.epsilon)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits (batch, tokens, words) of what follows each of the tokens
        (batch, tokens).
        """
        x = self.embedding(tokens)
        for block in self.blocks:
            x, _, _ = block(x)
        return functional.linear(self.norm(x), self.embedding.weight)


def rotations(sizes: Sizes, first: int, tokens: int) -> tuple[Tensor, Tensor]:
    """Return the factors of a head's elements, and those of the elements half a head away, each
    (tokens, head): the elements i and i + head / 2 turn by the position times theta^(-2i / head)
    (Su et al., "RoFormer", 2021).
    """
    half = sizes.head // 2
    rates = sizes.theta ** (-torch.arange(half) / half)
    angles = torch.outer(torch.arange(first, first + tokens), rates).repeat(1, 2)
    signs = torch.ones(sizes.head)
    signs[:half] = -1
    return angles.cos(), angles.sin() * signs


PARTS = {
    "attn_norm": "attention_norm",
    "attn_q": "queries",
    "attn_k": "keys",
    "attn_v": "values",
    "attn_output": "output",
    "ffn_norm": "mlp_norm",
    "ffn_gate": "gate",
    "ffn_up": "up",
    "ffn_down": "down",
}
"""The names of a block's parts in a file and here."""


class Checkpoint:
    """A GGUF file: the tensors are read when they are asked for, as float32."""

    def __init__(self, path: Path, sizes: Sizes) -> None:
        self._path, self.sizes = path, sizes
        self._weights = load_weights(path)

    def embedding(self) -> Tensor:
        """Return the vectors of the vocabulary (words, width)."""
        return self._tensor("token_embd")

    def block(self, number: int) -> dict[str, Tensor]:
        """Return the parameters of a `Block`."""
        found = {}
        for name, part in PARTS.items():
            weight = self._tensor(f"blk.{number}.{name}")
            if part in ("queries", "keys"):
                # in the file, the two rows that are turned together follow each other
                weight = weight.unflatten(0, (-1, self.sizes.head // 2, 2)).transpose(1, 2)
                weight = weight.reshape(-1, self.sizes.width)
            found[f"{part}.weight"] = weight
        return found

    def network(self) -> dict[str, Tensor]:
        """Return the parameters of a `Network`."""
        found = {"embedding.weight": self.embedding(), "norm.weight": self._tensor("output_norm")}
        for number in range(self.sizes.blocks):
            of_block = self.block(number)
            found |= {f"blocks.{number}.{name}": tensor for name, tensor in of_block.items()}
        return found

    def tokenizer(self) -> Any:
        """Return a `tokenizers.Tokenizer`: byte pairs, each digit by itself."""
        try:
            from tokenizers import Tokenizer, decoders, models, pre_tokenizers
        except ModuleNotFoundError:
            raise ModuleNotFoundError("tokenizers is not installed: make models") from None
        fields = require("gguf", "gguf").GGUFReader(self._path).fields
        words, merges = (
            fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "merges")
        )
        pairs = [tuple(merge.split(" ")) for merge in merges]
        tokenizer = Tokenizer(models.BPE({word: n for n, word in enumerate(words)}, pairs))
        digits = pre_tokenizers.Digits(individual_digits=True)
        pieces = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pieces])
        tokenizer.decoder = decoders.ByteLevel()
        return tokenizer

    def _tensor(self, name: str) -> Tensor:
        return torch.from_numpy(self._weights[f"{name}.weight"].copy())


def with_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> Any:
    """Return a module with these parameters, which are not copied."""
    module.load_state_dict(weights, assign=True)
    return module.requires_grad_(False).eval()


def perplexity(network: nn.Module, tokens: Sequence[int], window: int) -> float:
    """Return the perplexity of a text, of which the network sees windows of so many tokens."""
    loss, count = 0.0, 0
    with torch.inference_mode():
        for row in torch.tensor(tokens).reshape(-1, window):
            logits = network(row[None])[0, :-1].float()
            loss += float(functional.cross_entropy(logits, row[1:], reduction="sum"))
            count += window - 1
    return float(torch.tensor(loss / count).exp())
