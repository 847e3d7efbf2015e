"""Images among the tensors of a graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..images.layout import ImageLayout
from ..images.windows import Sides, make_axes
from .graph import Node

PIXELWISE = {"add", "sub", "mul", "relu", "clamp", "hardsigmoid", "fake_quantize"}
"""Operators whose result has the layout of their input."""


@dataclass(frozen=True)
class Image:
    """Images (batch, channels, *size) in a tensor (positions, channels) of the program.

    ``nonnegative``: zeros that are not stored are the least of their values, or all are stored.
    """

    tensor: str
    layout: ImageLayout
    wide: bool
    nonnegative: bool = True


def pixel_steps(layout: ImageLayout) -> list[int]:
    """Return the steps of `place_pixels`: from image to image, then in each dimension."""
    return [layout.image_step, *layout.steps]


@dataclass(frozen=True)
class Room:
    """What the operators after an image need of its layout.

    Attributes
    ----------
    border : tuple of (before, after)
        Pixels of zeros in each dimension.
    strides : tuple of int
        Of the convolutions that read it, in each dimension.
    """

    border: Sides
    strides: tuple[int, ...]


def find_room(
    name: str,
    uses: Mapping[str, Sequence[Node]],
    shapes: Mapping[str, tuple[int, ...]],
    found: dict[str, Room],
) -> Room:
    """Return the room that an image needs, so that no convolution after it has to move it.

    Poolings write to any layout, and what a convolution with strides leaves apart is moved.

    Parameters
    ----------
    found : dict
        The rooms of images so far: grows. Without it, branches that join again would be followed
        once for each way to their end.
    """
    if name in found:
        return found[name]
    size = shapes[name][2:]
    border = [(0, 0)] * len(size)
    strides = [1] * len(size)
    for node in uses.get(name, ()):
        if node.operator in PIXELWISE and shapes[node.result] == shapes[name]:
            room = find_room(node.result, uses, shapes, found)
            sides, further = room.border, room.strides
        elif node.operator == "conv" and node.inputs[0] == name:
            attributes = node.attributes
            stride, padding = attributes["stride"], attributes["padding"]
            kernel, dilation = shapes[node.inputs[1]][2:], attributes["dilation"]
            axes = make_axes(
                str(node), size, kernel, stride=stride, padding=padding, dilation=dilation
            )
            sides = tuple(axis.reach for axis in axes)
            room = find_room(node.result, uses, shapes, found)
            further = tuple(s * f for s, f in zip(stride, room.strides, strict=True))
            if set(stride) == {1}:
                # the result has the layout of this one
                sides = tuple(
                    (max(b, rb), max(a, ra))
                    for (b, a), (rb, ra) in zip(sides, room.border, strict=True)
                )
        else:
            continue
        border = [(max(b, sb), max(a, sa)) for (b, a), (sb, sa) in zip(border, sides, strict=True)]
        strides = [max(s, f) for s, f in zip(strides, further, strict=True)]
    found[name] = Room(tuple(border), tuple(strides))
    return found[name]
