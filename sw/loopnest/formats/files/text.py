"""Text files as tables of fields: lines of a fixed number of words, each understood whole.

A file is read in blocks of whole lines, a block's fields with array operations. The syntax of
fields is `WHOLE` and `NUMBER`; a value becomes the nearest float64 or integer, as by ``float`` and
``int``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from .decimal import RUN, decimals, digits

BLOCK = 1 << 19
"""Bytes that are read at a time, and the longest line."""

WHOLE = re.compile(rb"[+-]?\d+")
"""A whole number."""

NUMBER = re.compile(
    rb"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[ed][+-]?\d+)?|nan|inf|infinity)", re.IGNORECASE
)
"""A number; Fortran writes the exponents of double precision with a D."""

PADDING = b"\n" * RUN
"""Prefix of a block's text, so that bytes before any field can be read."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

EXPONENTS = bytes.maketrans(b"Dd", b"ee")


def quoted(text: bytes) -> str:
    """Return the start of a text on one line, for a message."""
    return repr(text.strip()[:60])[1:]


@dataclass(frozen=True)
class Block:
    """Whole lines of a file.

    Parameters
    ----------
    text : bytes
        `PADDING`, and lines that each end with a newline.
    line : int
        Number of the first line, from 1.
    """

    text: bytes
    line: int

    @classmethod
    def of(cls, lines: bytes, line: int) -> "Block":
        """Return a block of lines, the last of which may lack its newline."""
        if line == 1:
            lines = lines.removeprefix(BYTE_ORDER_MARK)
        return cls(PADDING + lines + b"\n" * (not lines.endswith(b"\n")), line)

    def line_of(self, at: int) -> int:
        """Return the number of the line that holds a byte of the text."""
        return self.line + self.text.count(b"\n", RUN, at)

    def without_comments(self, comment: re.Pattern[bytes]) -> "Block":
        """Return the block without matches of ``comment``, which must not match newlines."""
        return Block(comment.sub(b"", self.text), self.line)


def blocks(file: IO[bytes], line: int) -> Iterator[Block]:
    """Yield the rest of a file, whose next line has the number ``line``.

    Raises
    ------
    ValueError
        For a line longer than `BLOCK`.
    """
    rest = b""
    while True:
        read = file.read(BLOCK)
        text = rest + read
        end = text.rfind(b"\n") + 1 if read else len(text)
        if end:
            block = Block.of(text[:end], line)
            yield block
            line = block.line_of(len(block.text))
        rest = text[end:]
        if len(rest) > BLOCK:
            raise ValueError(f"line {line}: longer than {BLOCK} bytes")
        if not read:
            return


@dataclass(frozen=True)
class Fields:
    """The fields of a block, those of a line in a row.

    Parameters
    ----------
    start, end : NDArray[np.int64]
        Where each field lies in the block's text, of shape (lines, fields).
    """

    block: Block
    start: NDArray[np.int64]
    end: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.start)

    def line(self, row: int) -> int:
        """Return the line number of a row."""
        return self.block.line_of(int(self.start[row, 0]))

    def text(self, row: int, column: int) -> bytes:
        """Return a field's text."""
        return self.block.text[self.start[row, column] : self.end[row, column]]

    def refuse(self, row: int, column: int, what: str, expected: str) -> ValueError:
        """Return an error that gives line and field."""
        shown = quoted(self.text(row, column))
        return ValueError(f"line {self.line(row)}: {what} {shown}: expected {expected}")

    def whole(
        self,
        column: int,
        what: str,
        expected: str,
        dtype: type[np.signedinteger | np.unsignedinteger] = np.int64,
    ) -> NDArray:
        """Return a column of whole numbers.

        Raises
        ------
        ValueError
            For a field that is not an integer, or does not fit 64 bits; the message gives the line.
        """
        text = np.frombuffer(self.block.text, np.uint8)
        start, end = self.start[:, column], self.end[:, column]
        negative = text[start] == ord("-")
        start = start + (negative | (text[start] == ord("+")))
        found, good = digits(self.block.text, end, end - start)
        good &= (end > start) & (end - start <= 18)
        values = found.astype(np.int64)
        values = np.where(negative, -values, values).astype(dtype)
        limits = np.iinfo(dtype)
        for row in np.flatnonzero(~good | (negative & (limits.min == 0))).tolist():
            field = self.text(row, column)
            # the limit of a field's length keeps `int` fast
            value = int(field) if len(field) <= 40 and WHOLE.fullmatch(field) else None
            if value is None or not limits.min <= value <= limits.max:
                raise self.refuse(row, column, what, expected)
            values[row] = value
        return values

    def reals(
        self, column: int, what: str = "value", expected: str = "a number"
    ) -> NDArray[np.float64]:
        """Return a column of numbers.

        Raises
        ------
        ValueError
            For a field that is not a number; the message gives the line.
        """
        values, good = decimals(self.block.text, self.start[:, column], self.end[:, column])
        rest = np.flatnonzero(~good)
        places = zip(*(at[rest, column].tolist() for at in (self.start, self.end)), strict=True)
        words = [self.block.text[start:end] for start, end in places]
        for row, word in zip(rest.tolist(), words, strict=True):
            if not NUMBER.fullmatch(word):
                raise self.refuse(row, column, what, expected)
        values[rest] = [float(word.translate(EXPONENTS)) for word in words]
        return values


def fields(block: Block, width: int, expected: str) -> Fields:
    """Return a block's fields, without blank lines.

    Raises
    ------
    ValueError
        For a line with another number of fields than ``width``.
    """
    text = block.text
    known = np.frombuffer(text, np.uint8)
    blank = (known == 32) | (known == 10) | (known == 13) | (known == 9)
    # the text starts and ends with a blank, so each start has an end
    changes = np.flatnonzero(blank[1:] != blank[:-1]) + 1
    start, end = changes[::2], changes[1::2]
    newline = np.flatnonzero(known == ord("\n"))
    counts = np.diff(np.searchsorted(start, newline), prepend=0)
    bad = (counts != width) & (counts != 0)
    if bad.any():
        at = int(np.argmax(bad))
        line, count = text[newline[at - 1] + 1 : newline[at]], int(counts[at])
        raise ValueError(
            f"line {block.line_of(int(newline[at]))}: {quoted(line)}: "
            f"{count} field{'s' * (count != 1)}: expected {expected}"
        )
    return Fields(block, start.reshape(-1, width), end.reshape(-1, width))
