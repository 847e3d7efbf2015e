"""Matrix Market files: https://math.nist.gov/MatrixMarket/formats.html.

Comment lines (``%``) and blank lines may be anywhere after the first line; numbers are read by
`text`, including Fortran's D exponents, ``inf`` and ``nan``. As in SciPy, the fields ``double`` and
``unsigned-integer`` are accepted, duplicates are summed, and complex values are read.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from loopnest_hw.config import COORDINATE_BITS

from .text import BLOCK, BYTE_ORDER_MARK, Block, Fields, blocks, fields, quoted

COMMENT = re.compile(rb"^[ \t\r]*%[^\n]*", re.MULTILINE)

BANNERS = ("%%matrixmarket", "%matrixmarket")

FIELDS = {
    "real": np.float64,
    "double": np.float64,
    "complex": np.complex128,
    "integer": np.int64,
    "unsigned-integer": np.uint64,
    "pattern": np.float64,
}

SYMMETRIES = ("general", "symmetric", "skew-symmetric", "hermitian")


@dataclass(frozen=True)
class _Header:
    """The words of the first line."""

    layout: str
    field: str
    symmetry: str

    @property
    def values(self) -> int:
        """Number of fields of a value."""
        return {"pattern": 0, "complex": 2}.get(self.field, 1)


def read_mtx(file: IO[bytes]) -> Any:
    """Return a csr_array of a file in coordinate format (a coo_array if it has more rows than a
    chip can number), or an ndarray of one in array format.

    Raises
    ------
    ValueError
        For text that is not in the format; the message gives the line.
    """
    header = _read_header(file)
    size, line = _read_size(file, header)
    if header.symmetry != "general" and size[0] != size[1]:
        raise ValueError(f"line {line}: {size[0]} x {size[1]}: expected a square matrix")
    if header.layout == "array":
        return _read_array(file, header, size, line)
    return _read_coordinates(file, header, size, line)


def _read_header(file: IO[bytes]) -> _Header:
    line = file.readline(BLOCK).removeprefix(BYTE_ORDER_MARK)
    words = line.decode("latin-1").lower().split()
    if not words or words[0] not in BANNERS:
        raise ValueError(f"line 1: {quoted(line)}: expected %%MatrixMarket")
    if len(words) != 5:
        raise ValueError(
            f"line 1: {quoted(line)}: expected %%MatrixMarket matrix, format, field and symmetry"
        )
    for word, name, known in (
        (words[1], "object", ("matrix",)),
        (words[2], "format", ("coordinate", "array")),
        (words[3], "field", tuple(FIELDS)),
        (words[4], "symmetry", SYMMETRIES),
    ):
        if word not in known:
            raise ValueError(f"line 1: {name} {word[:40]!r}: expected {' or '.join(known)}")
    header = _Header(*words[2:])
    if header.field == "pattern" and header.layout == "array":
        raise ValueError("line 1: array of field pattern: expected coordinate")
    if header.field == "pattern" and header.symmetry not in ("general", "symmetric"):
        raise ValueError(f"line 1: {header.symmetry} pattern: expected general or symmetric")
    if header.symmetry == "hermitian" and header.field != "complex":
        raise ValueError(f"line 1: hermitian {header.field}: expected complex")
    if header.symmetry == "skew-symmetric" and header.field == "unsigned-integer":
        raise ValueError("line 1: skew-symmetric unsigned-integer: expected integer")
    return header


def _read_size(file: IO[bytes], header: _Header) -> tuple[list[int], int]:
    """Return the numbers of the size line, and the number of that line."""
    names = ("rows", "columns", "entries")[: 2 if header.layout == "array" else 3]
    expected = f"{len(names)} numbers: {', '.join(names)}"
    line = 1
    while raw := file.readline(BLOCK):
        line += 1
        block = Block.of(raw, line).without_comments(COMMENT)
        found = fields(block, len(names), expected)
        if len(found):
            size = [int(found.whole(i, name, expected)[0]) for i, name in enumerate(names)]
            for i, n in enumerate(size):
                if n < 0:
                    raise found.refuse(0, i, names[i], "0 or more")
            return size, line
    raise ValueError(f"line {line + 1}: the end of the file: expected {expected}")


def _read_lines(
    file: IO[bytes], line: int, width: int, lines: int, expected: str
) -> Iterator[Fields]:
    """Yield the fields of all lines after the size line, which gives their number."""
    count = 0
    for block in blocks(file, line + 1):
        if b"%" in block.text:
            block = block.without_comments(COMMENT)
        part = fields(block, width, expected)
        if count + len(part) > lines:
            raise ValueError(
                f"line {part.line(lines - count)}: expected the end of the file: "
                f"line {line} says {lines} {'entry' if lines == 1 else 'entries'}"
            )
        count += len(part)
        yield part
    if count < lines:
        raise ValueError(f"the file ends after {count} entries: line {line} says {lines}")


def _values(part: Fields, header: _Header, column: int) -> NDArray:
    if header.field == "pattern":
        return np.ones(len(part))
    if header.field == "complex":
        values = np.empty(len(part), np.complex128)
        values.real, values.imag = part.reals(column), part.reals(column + 1)
        return values
    if FIELDS[header.field] == np.float64:
        return part.reals(column)
    return part.whole(column, "value", f"an {header.field} of 64 bits", FIELDS[header.field])


def _read_coordinates(file: IO[bytes], header: _Header, size: list[int], line: int) -> Any:
    rows, columns, entries = size
    names = ("row", "column", *("value", "imaginary part")[: header.values])
    found: list[tuple[NDArray, NDArray, NDArray]] = []
    for part in _read_lines(file, line, len(names), entries, ", ".join(names)):
        at = []
        for i, n in enumerate((rows, columns)):
            index = part.whole(i, names[i], f"1 to {n}")
            outside = (index < 1) | (index > n)
            if outside.any():
                raise part.refuse(int(np.argmax(outside)), i, names[i], f"1 to {n}")
            at.append(index - 1)
        values = _values(part, header, 2)
        on_diagonal = at[0] == at[1]
        _check_diagonal(part, header, np.flatnonzero(on_diagonal), values[on_diagonal], 2)
        found.append((at[0], at[1], values))
    none = np.zeros(0, np.int64)
    found = found or [(none, none, np.zeros(0, FIELDS[header.field]))]
    row, column, values = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    if header.symmetry != "general":
        _check_triangles(row, column, header)
        other = np.flatnonzero(row != column)
        values = np.concatenate([values, _mirrored(values[other], header)])
        row, column = (
            np.concatenate([row, column[other]]),
            np.concatenate([column, row[other]]),
        )
    return _summed(sp.coo_array((values, (row, column)), (rows, columns)))


def _read_array(file: IO[bytes], header: _Header, size: list[int], line: int) -> NDArray:
    rows, columns = size
    whole = header.symmetry == "general"
    skew = header.symmetry == "skew-symmetric"
    entries = rows * columns if whole else rows * (rows - 1 if skew else rows + 1) // 2
    names = ("value", "imaginary part")[: header.values]
    found: list[NDArray] = [np.zeros(0, FIELDS[header.field])]
    parts = _read_lines(file, line, len(names), entries, f"one entry: {', '.join(names)}")
    found += [_values(part, header, 0) for part in parts]
    values = np.concatenate(found)
    if whole:
        return np.ascontiguousarray(values.reshape(columns, rows).T)
    # by columns, from the diagonal (or the element below it) down
    column, row = np.triu_indices(rows, int(skew))
    if header.symmetry == "hermitian" and (values[row == column].imag != 0).any():
        raise ValueError("hermitian matrix with a diagonal that is not real")
    matrix = np.zeros((rows, rows), values.dtype)
    matrix[column, row] = _mirrored(values, header)
    matrix[row, column] = values
    return matrix


def _mirrored(values: NDArray, header: _Header) -> NDArray:
    """Return the values of the other triangle."""
    if header.symmetry == "skew-symmetric":
        return -values
    return values.conj() if header.symmetry == "hermitian" else values


def _check_diagonal(
    part: Fields, header: _Header, rows: NDArray, values: NDArray, column: int
) -> None:
    """Refuse diagonal values that the symmetry does not allow."""
    if header.symmetry == "skew-symmetric":
        bad, what, expected = values != 0, "value on the diagonal", "0"
    elif header.symmetry == "hermitian":
        bad, what, expected = values.imag != 0, "imaginary part on the diagonal", "0"
        column += 1
    else:
        return
    if bad.any():
        raise part.refuse(int(rows[np.argmax(bad)]), column, what, expected)


def _check_triangles(row: NDArray, column: NDArray, header: _Header) -> None:
    """Refuse an entry that is given in both triangles, which would be counted twice."""
    above = row < column
    if not above.any() or not (row > column).any():
        return
    low, high = np.minimum(row, column), np.maximum(row, column)
    order = np.lexsort((above, low, high))
    low, high, above = low[order], high[order], above[order]
    both = (low[1:] == low[:-1]) & (high[1:] == high[:-1]) & (above[1:] != above[:-1])
    if both.any():
        k = int(np.argmax(both))
        i, j = int(high[k]) + 1, int(low[k]) + 1
        raise ValueError(
            f"entries ({i}, {j}) and ({j}, {i}) of a {header.symmetry} matrix: expected one of them"
        )


def _summed(coo: sp.coo_array) -> Any:
    """Return the matrix without duplicates."""
    tall = coo.shape[0] > 1 << COORDINATE_BITS

    def summed(coo: sp.coo_array) -> Any:
        if not tall:
            return coo.tocsr()
        coo = coo.copy()
        coo.sum_duplicates()
        return coo

    matrix = summed(coo)
    if matrix.dtype.kind in "iu" and matrix.nnz < coo.nnz:
        near = summed(coo.astype(np.float64)).data
        wrong = np.abs(near - matrix.data) > 2.0**62
        if wrong.any():
            raise ValueError(f"duplicates with a sum of {near[wrong][0]:g}: expected 64 bits")
    return matrix
