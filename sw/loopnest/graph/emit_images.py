"""The statements of operators on images."""

from math import prod
from typing import Any

import numpy as np
import scipy.sparse as sp

from ..epilogue import Epilogue
from ..images.convolution import convolution, repeated, repeats_channels
from ..images.layer import Layer
from ..images.layout import CrowdedError, ImageLayout
from ..images.pooling import avg_pool, global_average, max_pool, repack
from .factors import TOO_LARGE
from .graph import dense
from .image import PIXELWISE, Image, find_room
from .lower import Lowering
from .stages import Stage
from .steps import NARROW_LOW
from .tensors import Scale
from .values import Value

WASTE = 1.25
"""Positions for each pixel from which the pixels alone are computed."""


APART = 3
"""Factor on the smallest layout's positions from which the result of a stride is moved to it."""


def emit_images(lowering: Lowering, stage: Stage) -> str | None:
    """Add the items of a stage on images; return why that is not possible, nothing where it was,
    and None for what is not an operator on images.
    """
    if stage.operator == "conv":
        return _conv(lowering, stage)
    if stage.operator in ("max_pool", "avg_pool"):
        return _pool(lowering, stage)
    if stage.operator == "mean" and stage.inputs[0] in lowering.images:
        return _mean(lowering, stage)
    images = [name for name in stage.inputs if name in lowering.images]
    if images and stage.operator in (*PIXELWISE, "copy"):
        return _pixelwise(lowering, stage, images[0])
    return None


def _image(lowering: Lowering, name: str) -> Image:
    """Return images, with the border that operators after them need."""
    if name not in lowering.images:
        lowering.place_image(name, _compact(lowering, name))
    return lowering.images[name]


def _compact(lowering: Lowering, name: str) -> ImageLayout:
    """Return the smallest layout of images with the room that they need."""
    room = find_room(name, lowering.uses, lowering.shapes, lowering.rooms)
    batch, channels, *size = lowering.shape(name)
    return ImageLayout.make(batch, size, channels, border=room.border, strides=room.strides)


def _factor(
    lowering: Lowering, name: str, *, layout: ImageLayout | None = None, narrow: bool = False
) -> tuple[Image, Scale]:
    """Return images as the factor of a product, and their scale: narrow on an int8 chip, or if that
    is said; in this layout if one is given.
    """
    image, scale = _image(lowering, name), lowering.scale(name)
    layout = layout or image.layout
    if not (image.wide and (narrow or lowering.integers)):
        return _moved(lowering, name, layout), scale
    if not lowering.integers:
        return _copied(lowering, name, layout, Epilogue(out="narrow")), scale
    if name in lowering.steps:
        return _moved(lowering, name, layout), scale
    own = lowering.narrow_scale(name)
    return _copied(lowering, name, layout, Epilogue(scale=scale / own, out="narrow")), own


def _moved(lowering: Lowering, name: str, layout: ImageLayout) -> Image:
    """Return images in a layout."""
    image = lowering.images[name]
    if image.layout == layout:
        return image
    return _copied(lowering, name, layout, None if image.wide else Epilogue(out="narrow"))


def _copied(lowering: Lowering, name: str, layout: ImageLayout, epilogue: Epilogue | None) -> Image:
    """Add a statement that copies images to a layout; return the copy."""
    image = lowering.images[name]
    tensor = lowering.build.name(name)
    if layout == image.layout:
        layer = Layer(statement=f"{tensor}[p,c] = {image.tensor}[p,c]", operands={}, layout=layout)
    else:
        layer = repack(image.layout, layout, image=image.tensor, result=tensor)
    lowering.build.add_layer(tensor, layer, epilogue)
    return Image(tensor, layout, epilogue is None or not epilogue.narrow)


def _repeated(lowering: Lowering, name: str, image: Image, channels: int) -> Image:
    """Add a statement that repeats each channel of images; return the images."""
    border = find_room(name, lowering.uses, lowering.shapes, lowering.rooms).border
    tensor = lowering.build.name(f"{name}_repeated")
    times = channels // image.layout.channels
    layer = repeated(image.layout, times, border, image=image.tensor, result=tensor)
    lowering.build.add_layer(tensor, layer, None if image.wide else Epilogue(out="narrow"))
    return Image(tensor, layer.layout, image.wide)


def _conv(lowering: Lowering, stage: Stage) -> str:
    name, weight = stage.inputs[:2]
    if lowering.constant(weight) is None:
        return "its weights are computed"
    if len(stage.inputs) == 3:
        return "its bias is computed"
    if len(stage.shape) > 4:
        return "it has more than two dimensions"
    weights, own = lowering.weights(weight, 0)
    if lowering.integers and weights.dtype == np.int32:
        return "int8 does not hold its weights less their zero point"
    if why := lowering.overflow([name], prod(lowering.shape(weight)[1:])):
        return why
    image, unit = _factor(lowering, name)
    room = find_room(stage.result, lowering.uses, lowering.shapes, lowering.rooms)
    tensor = lowering.build.name(stage.result)
    strided = set(stage.attributes["stride"]) != {1}
    density = 1 - lowering.zeros(name)
    repeats = repeats_channels(weights, stage.attributes["groups"], density)

    def layer(image: Image) -> Layer:
        attributes = dict(stage.attributes)
        if repeats:
            attributes["groups"] = len(weights)
            image = _repeated(lowering, name, image, len(weights))
        return convolution(
            image.layout,
            weights,
            **attributes,
            border=0 if strided else room.border,
            image=image.tensor,
            result=tensor,
        )

    try:
        found = layer(image)
    except CrowdedError as error:
        batch, channels, *size = lowering.shape(name)
        before = find_room(name, lowering.uses, lowering.shapes, lowering.rooms)
        wider = ImageLayout.make(
            batch,
            size,
            channels,
            border=before.border,
            pitch=error.pitch or 1,
            strides=before.strides,
        )
        found = layer(_factor(lowering, name, layout=wider)[0])
    _add(lowering, stage, tensor, found, unit * own)
    together = _compact(lowering, stage.result)
    read = {node.operator for node in lowering.uses.get(stage.result, ())}
    far = found.layout.positions > APART * together.positions
    if strided and read & {"conv", *PIXELWISE} and far:
        lowering.images[stage.result] = _moved(lowering, stage.result, together)
    return ""


def _pool(lowering: Lowering, stage: Stage) -> str:
    """Take the maximum or the average of windows."""
    (name,) = stage.inputs
    if len(stage.shape) > 4:
        return "it has more than two dimensions"
    image = _image(lowering, name)
    given = stage.attributes
    tensor = lowering.build.name(stage.result)
    common: dict[str, Any] = {
        "stride": given["stride"],
        "padding": given["padding"],
        "border": find_room(stage.result, lowering.uses, lowering.shapes, lowering.rooms).border,
        "image": image.tensor,
        "result": tensor,
    }
    try:
        if stage.operator == "max_pool":
            layer = max_pool(image.layout, given["kernel"], dilation=given["dilation"], **common)
        else:
            divisor = given.get("divisor")
            stage.scale = stage.scale * (prod(given["kernel"]) / divisor if divisor else 1)
            counted = divisor is not None or given.get("count_padding", True)
            layer = avg_pool(image.layout, given["kernel"], count_include_pad=counted, **common)
    except ValueError as error:
        return str(error)
    if layer.nonnegative and not image.nonnegative:
        return "its images may be negative, and are stored without zeros"
    _add(lowering, stage, tensor, layer, lowering.scale(name))
    return ""


def _mean(lowering: Lowering, stage: Stage) -> str | None:
    """Average whole images."""
    (name,) = stage.inputs
    image, rank = lowering.images[name], len(lowering.shape(name))
    axes = sorted(axis % rank for axis in stage.attributes["axes"])
    if axes != list(range(2, rank)) or np.any(stage.bias):
        return None
    tensor = lowering.build.name(stage.result)
    layer = global_average(image.layout, image=image.tensor, result=tensor)
    _add(lowering, stage, tensor, layer, lowering.scale(name))
    found = lowering.images.pop(stage.result)
    # an image of one pixel is a row
    axes = [axis for axis in (0, 1) if stage.shape[axis] != 1]
    lowering.define(
        stage.result,
        Value(tensor=found.tensor, shape=stage.shape, axes=tuple(axes), wide=found.wide),
    )
    return ""


def _pixelwise(lowering: Lowering, stage: Stage, first: str) -> str | None:
    """Apply an operator to images and what broadcasts over their pixels."""
    image = lowering.images[first]
    shape = lowering.shape(first)
    if shape != stage.shape:
        return None
    product, more = stage.operator == "mul", ""
    unit: Scale = 1.0
    copied = stage.operator == "copy"
    if copied:
        more, unit = lowering.finer(stage)
    elif not product:
        unit = lowering.sum_scale(stage.inputs)
    if not product and lowering.too_large(stage.inputs, unit):
        return TOO_LARGE
    tensor = lowering.build.name(stage.result)
    operands: dict[str, Any] = {}
    terms: list[str] = []
    wide = False
    # where both factors are wide, the second one is a narrow tensor and a number
    inputs = sorted(stage.inputs, key=lambda name: name not in lowering.images or not product)
    second = inputs[-1]
    apart = product and len(inputs) == 2 and all(map(lowering.wide_steps, inputs))
    if product and (why := lowering.too_coarse(inputs)):
        return why
    if apart and (why := lowering.too_wide(inputs, 1)):
        return why
    number = 0
    for name in inputs if product else stage.inputs:
        split = apart and name is second and len(terms) == 1
        own = lowering.shape(name)
        padded = (1,) * (len(shape) - len(own)) + own
        each = prod(padded[2:]) == 1 and padded[1] == shape[1]
        if padded != shape and not each and lowering.constant(name) is None:
            return None
        if name in lowering.images and not each:
            if product:
                found, scale = _factor(lowering, name, layout=image.layout, narrow=wide)
                if split:
                    number = lowering.steps[name].low - NARROW_LOW
                    part = Epilogue(bias=-number, out="narrow")
                    found = _copied(lowering, name, image.layout, part)
                unit, wide = unit * scale, wide or found.wide
            elif copied or (scale := lowering.scale(name)) == unit:
                found = _moved(lowering, name, image.layout)
            else:
                found = _copied(lowering, name, image.layout, Epilogue(scale=scale / unit))
            terms.append(f"{found.tensor}[p,c]")
            continue
        if product:
            name, scale = lowering.factor(name, narrow=True)
            unit = unit * scale
            if split:
                name, number = lowering.narrow_part(name)
        elif not copied:
            name = lowering.term(name, unit)
        if not each:
            constant = lowering.constant(name)
            if constant is None:
                return None
            if product and lowering.integers and constant.dtype == np.int32:
                return "int8 does not hold its factors less their zero point"
            placed = image.layout.pack(np.broadcast_to(dense(constant), shape))
            operands[f"{tensor}_term"] = placed if product else lowering.wide(placed)
            terms.append(f"{tensor}_term[p,c]")
            continue
        lead = len(own) - len(shape)
        batch = [lead] if lead >= 0 else []
        term = lowering.access(name, [("n", batch), ("c", [lead + 1])], {})
        if padded[0] != 1:
            # the image that each pixel is of
            operands[f"{tensor}_image"] = _images_of_pixels(image.layout)
            term = f"{tensor}_image[p,n] * {term}"
        terms.append(term)
    operator = {"add": " + ", "sub": " - ", "mul": " * "}.get(stage.operator, "")
    expression = more + operator.join(terms)
    if number:
        expression += f" - {-number} * {terms[0]}"
    if lowering.integers:
        stage.in_steps(unit, lowering.scale(stage.result))
    epilogue = stage.epilogue(1, 0, narrow=lowering.narrow(stage.result))
    inside = epilogue is None or epilogue.keeps_zero
    outside = not inside or (not product and any(term.count("[p,c]") == 0 for term in terms))
    # what lies between the pixels is not computed, where the chip has a column for the mask
    if outside or (image.layout.waste > WASTE and expression.count("[") < 3):
        operands[f"{tensor}_wanted"] = image.layout.wanted
        expression += f" where {tensor}_wanted[p]"
    layer = Layer(statement=f"{tensor}[p,c] = {expression}", operands=operands, layout=image.layout)
    lowering.add_layer(stage, tensor, layer, epilogue)
    return ""


def _add(lowering: Lowering, stage: Stage, tensor: str, layer: Layer, unit: Scale) -> None:
    """Add the layer of a stage."""
    if lowering.integers:
        stage.in_steps(unit, lowering.scale(stage.result))
    epilogue = stage.epilogue(1, 0, narrow=lowering.narrow(stage.result))
    lowering.add_layer(stage, tensor, layer, epilogue)


def _images_of_pixels(layout: ImageLayout) -> sp.csr_array:
    """Return the matrix (positions, batch) that has a 1 where a position is a pixel of an image."""
    pixels = layout.pixels.reshape(layout.batch, -1)
    image = np.repeat(np.arange(layout.batch), pixels.shape[1])
    entries = np.ones(pixels.size), (pixels.reshape(-1), image)
    return sp.csr_array(entries, (layout.positions, layout.batch))
