"""FROSTT files (.tns): a line of coordinates from 1 and a value for each entry.

http://frostt.io/tensors/file-formats.html. Text after a ``#`` is a comment. The format has no
shape: a tensor is as large as its largest coordinates, unless a comment ``# shape: 3 4 5`` gives a
larger one.
"""

import re
from typing import IO, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from .text import Block, Fields, blocks, fields, quoted

COMMENT = re.compile(rb"#[^\n]*")
SHAPE = re.compile(rb"#[ \t]*shape:([^\n]*)")

MAX_EXACT = 1 << 53
"""Up to here, float64 represents every integer."""


def read_tns(file: IO[bytes]) -> Any:
    """Return a coo_array.

    Raises
    ------
    ValueError
        For text that is not in the format; the message gives the line.
    """
    shape: tuple[int, ...] = ()
    width = 0
    columns: list[list[NDArray]] = []
    for block in blocks(file, 1):
        if b"#" in block.text:
            shape = _shape(block) or shape
            block = block.without_comments(COMMENT)
        width = width or _width(block)
        if width:
            expected = f"{width} fields, as the lines above"
            part = fields(block, width, expected)
            columns.append(
                [*(_coordinates(part, m) for m in range(width - 1)), part.reals(width - 1)]
            )
    if not width and not shape:
        raise ValueError("no entries and no shape: expected lines of coordinates and a value")
    if not width:
        none = np.zeros(0, np.int64)
        return sp.coo_array((np.zeros(0), (none,) * len(shape)), shape)
    *at, values = (np.concatenate(column) for column in zip(*columns, strict=True))
    largest = tuple(int(column.max()) for column in at)
    shape = shape or largest
    if len(shape) != len(at) or any(n > size for n, size in zip(largest, shape, strict=True)):
        raise ValueError(f"shape {shape}: entries at {largest}")
    return sp.coo_array((values, tuple(column - 1 for column in at)), shape)


def write_tns(file: IO[bytes], tensor: Any) -> None:
    """Write a scipy.sparse array, or the nonzeros of an ndarray."""
    coo = sp.coo_array(tensor)
    file.write(f"# shape: {' '.join(map(str, coo.shape))}\n".encode())
    columns = [*(c + 1 for c in coo.coords), coo.data]
    for entry in zip(*(column.tolist() for column in columns), strict=True):
        file.write((" ".join(map(str, entry)) + "\n").encode())


def _shape(block: Block) -> tuple[int, ...]:
    """Return the last shape in the block's comments."""
    shape: tuple[int, ...] = ()
    for comment in SHAPE.finditer(block.text):
        words = comment[1].split()
        if not words or not all(word.isdigit() and len(word) < 20 for word in words):
            line = block.line_of(comment.start())
            raise ValueError(f"line {line}: {quoted(comment[0])}: expected the size of each mode")
        shape = tuple(map(int, words))
    return shape


def _width(block: Block) -> int:
    """Return the number of fields of the first non-blank line."""
    at = len(block.text) - len(block.text.lstrip(b" \t\r\n"))
    if at == len(block.text):
        return 0
    line = block.text[at : block.text.index(b"\n", at)]
    width = len(re.findall(rb"[^ \t\r\n]+", line))
    if width == 1:
        raise ValueError(
            f"line {block.line_of(at)}: {quoted(line)}: expected coordinates and a value"
        )
    return width


def _coordinates(part: Fields, mode: int) -> NDArray[np.int64]:
    expected = "a whole coordinate from 1"
    try:
        found = part.whole(mode, "coordinate", expected)
    except ValueError:
        # some programs write coordinates like values: 2.0 or 2e0
        numbers = part.reals(mode, "coordinate", expected)
        good = (numbers == np.floor(numbers)) & (np.abs(numbers) <= MAX_EXACT)
        if not good.all():
            raise part.refuse(int(np.argmin(good)), mode, "coordinate", expected) from None
        found = numbers.astype(np.int64)
    if (found < 1).any():
        raise part.refuse(int(np.argmax(found < 1)), mode, "coordinate", expected)
    return found
