"""Operators in which PyTorch computes whole layers without gradients, spelled out."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

PADDING = 1
"""The type of a mask (batch, positions); others have the axes of attention."""


def spelled_out() -> dict[Any, Callable[..., Any]]:
    """Return what computes the same as these operators, in operators that have translations."""
    return {torch.ops.aten._transformer_encoder_layer_fwd.default: _encoder_layer}


def _encoder_layer(
    src: Tensor,
    embed_dim: int,
    num_heads: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: Tensor,
    norm_bias_1: Tensor,
    norm_weight_2: Tensor,
    norm_bias_2: Tensor,
    ffn_weight_1: Tensor,
    ffn_bias_1: Tensor,
    ffn_weight_2: Tensor,
    ffn_bias_2: Tensor,
    mask: Tensor | None = None,
    mask_type: int | None = None,
) -> Tensor:
    """Return the result of `torch.nn.TransformerEncoderLayer` for src (batch, positions, width)."""

    def attention(x: Tensor) -> Tensor:
        heads = functional.linear(x, qkv_weight, qkv_bias).unflatten(-1, (3, num_heads, -1))
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)
        seen = None if mask is None else ~mask.to(torch.bool)
        if seen is not None and mask_type == PADDING:
            seen = seen[:, None, None, :]
        found = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        return functional.linear(found.transpose(1, 2).flatten(2), proj_weight, proj_bias)

    def perceptron(x: Tensor) -> Tensor:
        inner = functional.linear(x, ffn_weight_1, ffn_bias_1)
        inner = functional.gelu(inner) if use_gelu else functional.relu(inner)
        return functional.linear(inner, ffn_weight_2, ffn_bias_2)

    def first(x: Tensor) -> Tensor:
        return functional.layer_norm(x, (embed_dim,), norm_weight_1, norm_bias_1, eps)

    def second(x: Tensor) -> Tensor:
        return functional.layer_norm(x, (embed_dim,), norm_weight_2, norm_bias_2, eps)

    if norm_first:
        src = src + attention(first(src))
        return src + perceptron(second(src))
    src = first(src + attention(src))
    return second(src + perceptron(src))
