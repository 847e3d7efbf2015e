"""Products, embeddings and attention."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import fx

from .builder import Builder, shape_of
from .elementwise import where
from .table import aten
from .traced import Traced


@aten("linear.default")
def _linear(
    b: Builder, node: fx.Node, x: Traced, weight: Traced, bias: Traced | None = None
) -> Any:
    if x.ndim < 1 or weight.ndim != 2:
        return NotImplemented
    inputs = [x, weight] if bias is None else [x, weight, bias]
    return b.emit("linear", inputs, (*x.shape[:-1], weight.shape[0]), x.dtype)


@aten(
    "mm.default", "bmm.default", "mv.default", "dot.default", "matmul.default", "_sparse_mm.default"
)
def _matmul(b: Builder, node: fx.Node, x: Traced, y: Traced) -> Traced:
    return b.matmul(x, y)


@aten("addmm.default", "baddbmm.default", "addmv.default", "_sparse_addmm.default")
def _addmm(
    b: Builder, node: fx.Node, c: Traced, x: Traced, y: Traced, *, beta: Any = 1, alpha: Any = 1
) -> Traced:
    found = b.matmul(x, y)
    found = found if alpha == 1 else b.mul(found, alpha)
    if beta == 0:
        return found
    return b.add(found, c if beta == 1 else b.mul(c, beta))


@aten("convolution.default")
def _convolution(
    b: Builder,
    node: fx.Node,
    x: Traced,
    weight: Traced,
    bias: Traced | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Any:
    spatial = weight.ndim - 2
    if spatial not in (1, 2):
        return NotImplemented
    stride, padding, dilation, output_padding = (
        tuple(p) * spatial if len(p) == 1 else tuple(p)
        for p in (stride, padding, dilation, output_padding)
    )
    pads = [(p, p) for p in padding]
    if transposed:
        if not weight.known:
            return NotImplemented
        x, weight = _spread(b, x, stride), _turned(b, weight, groups)
        span = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        pads = [(s - p, s - p + o) for s, p, o in zip(span, padding, output_padding, strict=True)]
        cropped = [(min(0, before), min(0, after)) for before, after in pads]
        x = b.pad(x, [(0, 0), (0, 0), *cropped])
        pads = [(max(0, before), max(0, after)) for before, after in pads]
        stride = (1,) * spatial
    inputs = [x, weight] if bias is None else [x, weight, bias]
    shape = shape_of(node.meta["val"])
    return b.emit(
        "conv",
        inputs,
        shape if len(shape) == x.ndim else (1, *shape),
        x.dtype,
        stride=tuple(stride),
        padding=tuple(pads),
        dilation=tuple(dilation),
        groups=groups,
    )


@aten("conv1d.default", "conv2d.default")
def _conv(
    b: Builder,
    node: fx.Node,
    x: Traced,
    weight: Traced,
    bias: Traced | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Any:
    alone = x.ndim < weight.ndim
    x = b.reshape(x, (1, *x.shape)) if alone else x
    how = (stride, padding, dilation, False, (0,), groups)
    found = _convolution(b, node, x, weight, bias, *how)
    return b.reshape(found, found.shape[1:]) if alone else found


def _spread(b: Builder, x: Traced, stride: Sequence[int]) -> Traced:
    """Return images with stride - 1 zeros between neighbours: kernels skip zeros."""
    outer, places = x.shape[:2], x.shape[2:]
    x = b.reshape(x, (*outer, *(n for place in places for n in (place, 1))))
    x = b.pad(x, [(0, 0), (0, 0), *(p for s in stride for p in ((0, 0), (0, s - 1)))])
    x = b.reshape(x, (*outer, *(n * s for n, s in zip(places, stride, strict=True))))
    return b.pad(x, [(0, 0), (0, 0), *((0, 1 - s) for s in stride)])


def _turned(b: Builder, weight: Traced, groups: int) -> Traced:
    """Return the weights of a transposed convolution as those of a convolution."""
    array = np.flip(weight.value, tuple(range(2, weight.ndim)))
    inner, per_group, *kernel = weight.shape
    array = array.reshape(groups, inner // groups, per_group, *kernel).swapaxes(1, 2)
    array = array.reshape(groups * per_group, inner // groups, *kernel)
    return b.known(array, weight.dtype, weight.name and f"{weight.name}.turned")


@aten("embedding.default")
def _embedding(b: Builder, node: fx.Node, table: Traced, ids: Traced, *unused: Any) -> Traced:
    return b.emit("embedding", [ids, table], (*ids.shape, table.shape[1]), table.dtype)


@aten(
    "embedding_bag.padding_idx",
    "embedding_bag.default",
    "_embedding_bag_forward_only.default",
    "_embedding_bag.default",
)
def _embedding_bag(
    b: Builder,
    node: fx.Node,
    table: Traced,
    ids: Traced,
    offsets: Traced,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Traced | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    if include_last_offset:
        offsets = b.slice(offsets, 0, 0, offsets.shape[0] - 1)
    shape = (offsets.shape[0], table.shape[1])
    inputs = [ids, offsets, table, *([] if per_sample_weights is None else [per_sample_weights])]
    attributes: dict[str, Any] = {"mode": ("sum", "mean", "max")[mode]}
    if padding_idx is not None and padding_idx >= 0:
        attributes["padding"] = padding_idx
    found = b.emit("embedding_bag", inputs, shape, table.dtype, **attributes)
    return (found, None, None, None)


@aten("scaled_dot_product_attention.default")
def _attention(
    b: Builder,
    node: fx.Node,
    q: Traced,
    k: Traced,
    v: Traced,
    mask: Traced | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Traced:
    if dropout_p:
        raise ValueError("dropout while training: expected a model in evaluation: model.eval()")
    *outer, length, width = q.shape
    keys = k.shape[-2]
    shared = enable_gqa and q.shape[-3] != k.shape[-3]
    if shared:  # the queries of a group are rows of one matrix
        heads, group = k.shape[-3], q.shape[-3] // k.shape[-3]
        q = b.reshape(q, (*outer[:-1], heads, group * length, width))
    scores = b.matmul(q, b.swap(k))
    if shared:
        scores = b.reshape(scores, (*outer, length, keys))
    scores = b.mul(scores, width**-0.5 if scale is None else scale)
    if is_causal:
        mask = b.known(np.tri(length, keys, dtype=bool), torch.bool)
    if mask is not None and mask.dtype == torch.bool:
        scores = where(b, mask, scores, -np.inf)
    elif mask is not None:
        scores = b.add(scores, mask)
    weights = b.unary("softmax", scores, axis=scores.ndim - 1, masked=mask is not None)
    if shared:
        weights = b.reshape(weights, (*outer[:-1], heads, group * length, keys))
    found = b.matmul(weights, v)
    return b.reshape(found, (*outer, length, v.shape[-1])) if shared else found


@aten("linalg_vector_norm.default")
def _norm(
    b: Builder,
    node: fx.Node,
    x: Traced,
    order: float = 2,
    dims: Any = None,
    keepdim: bool = False,
    **unused: Any,
) -> Any:
    if order != 2 or not prod(x.shape):
        return NotImplemented
    return b.unary("sqrt", b.over("sum", b.mul(x, x), x.axes(dims), keepdim))
