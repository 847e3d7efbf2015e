"""Text files: every field is understood whole, or refused with its line."""

import gzip
import io
import random
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp

from loopnest.formats.files import decimal, read_tensor, text, write_tensor
from loopnest.formats.files.frostt import read_tns
from loopnest.formats.files.matrix_market import read_mtx

SEED = 1


def mtx(lines: str, kind: str = "coordinate real general"):
    return read_mtx(io.BytesIO(f"%%MatrixMarket matrix {kind}\n{lines}".encode()))


def number(rng: random.Random) -> str:
    """Return a number as a program may write it."""

    def some(most: int) -> str:
        return "".join(rng.choice("0123456789") for _ in range(rng.randint(1, most)))

    most = rng.choice([2, 8, 9, 17, 30])
    mantissa = rng.choice(
        [some(most), f"{some(most)}.", f".{some(most)}", f"{some(most)}.{some(most)}"]
    )
    exponent = rng.choice(["", "", "e", "E", "d", "D"])
    if exponent:
        exponent += rng.choice(["", "+", "-"]) + rng.choice([some(1), some(2), some(4)])
    special = rng.choice(["nan", "inf", "Infinity", "NaN", "INF"])
    return rng.choice(["", "", "-", "+"]) + (
        special if rng.random() < 0.05 else mantissa + exponent
    )


def nearest(word: str) -> float:
    return float(word.lower().replace("d", "e"))


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether two arrays have the same bits, all NaN being the same."""
    with np.errstate(invalid="ignore"):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return bool(((a.view(np.int64) == b.view(np.int64)) | (np.isnan(a) & np.isnan(b))).all())


@pytest.mark.parametrize("extended", [True, False])
def test_numbers_are_read_as_float_reads_them(extended: bool, monkeypatch) -> None:
    """Doubles as programs print them too, and the middles of two doubles; also on machines that
    have no type wider than float64.
    """
    if not extended:
        monkeypatch.setattr(decimal, "WIDE", np.float64)
        monkeypatch.setattr(decimal, "WIDE_POWERS", 10.0 ** np.arange(23))
        monkeypatch.setattr(decimal, "MAX_POWER", 22)
        monkeypatch.setattr(decimal, "MAX_MANTISSA", 1 << 53)
    rng = random.Random(SEED)
    words = [number(rng) for _ in range(3000)]
    doubles = np.random.default_rng(SEED).integers(0, 1 << 63, 3000).view(np.float64)
    for x in (*doubles, *np.random.default_rng(SEED).standard_normal(3000)):
        words += [repr(float(x)), f"{x:.16e}", f"{x:.5g}"]
    for _ in range(2000):  # as near to the middle as 19 digits get
        x = rng.uniform(1, 10)
        middle = Fraction(x) + Fraction(np.spacing(x)) / 2
        words.append(f"{round(middle * 10**18)}e-18")
    for k in range(2000):
        m = rng.randint(1 << 52, (1 << 53) - 1)
        words += [f"{2 * m + 1}", f"{m}.5" if m < 1 << 52 else str(4 * m + 2), f"{m}e{k % 10 - 5}"]
    entries = "".join(f"{k + 1} 1 {word}\n" for k, word in enumerate(words))
    got = read_tns(io.BytesIO(entries.encode())).data
    expected = [nearest(word) for word in words]
    wrong = [w for w, g, e in zip(words, got, expected, strict=True) if not same([g], [e])]
    assert not wrong
    dense = mtx(f"{len(words)} 1\n" + "\n".join(words), "array real general")
    assert same(dense[:, 0], np.array(expected))


NOT_NUMBERS = [
    "1,5", "1.5f", "1_000", "0x10", "--1", "+-1", "1e", "1e+", "e5", ".", "-", "+", "1.2.3",
    "1e2e3", "1e2.5", "1.5+102", "1d", "d1", "1.d", "1e5d5", "nan1", "nanx", "infin", "in", "one",
    "1/2", "1%", "(1)", "$1", "1\x00", "\x001", "\x0c1", "1\x0b", "1\x7f", "\uff11", "½", "1e--5",
    "1-5", "1e5-", "-.", "1..", "..1", "1e.5", "true", "None", "1j", "1 ,", "''", '"1"', "1;",
]  # fmt: skip


@pytest.mark.parametrize("word", NOT_NUMBERS)
def test_what_is_no_number_is_refused_with_its_line(word: str) -> None:
    with pytest.raises(ValueError, match=r"^line 4: "):
        mtx(f"3 3 2\n1 1 1\n2 2 {word}\n")
    with pytest.raises(ValueError, match=r"^line 2: "):
        read_tns(io.BytesIO(f"1 1 1\n2 2 {word}\n3 3 3".encode()))


def damaged(rng: random.Random) -> str:
    """Return a number with a character too much, which `float` and Fortran don't understand."""
    while True:
        word = number(rng)
        at = rng.randint(0, len(word))
        word = word[:at] + rng.choice("0.,-+eEdDx_#/:%\x00\x0b") + word[at:]
        try:
            nearest(word.replace("_", "x").replace("\x0b", "x"))
        except ValueError:
            return word


def test_damaged_numbers_are_refused() -> None:
    rng = random.Random(SEED)
    for _ in range(400):
        word = damaged(rng)
        with pytest.raises(ValueError, match=r"^line 3: ") as error:
            mtx(f"9 9 1\n1 1 {word}\n")
        assert "\n" not in str(error.value) and "expected" in str(error.value)


@pytest.mark.parametrize("word", ["0", "7", "-3", "+5", "007", "9223372036854775807",
                                  "-9223372036854775808", "4629700416936869889", "-0"])  # fmt: skip
def test_whole_numbers(word: str) -> None:
    got = mtx(f"2 2 1\n1 2 {word}\n", "coordinate integer general")
    assert got.dtype == np.int64 and got[0, 1] == int(word)


NOT_WHOLE = [
    "5.7", "5e3", "5.", "5d0", "0x5", "nan", "inf", "1_0", "9" * 19, "9" * 60,
    "-9223372036854775809", "", "+", "5-", "½",
]  # fmt: skip


@pytest.mark.parametrize("word", NOT_WHOLE)
def test_an_integer_file_has_whole_numbers(word: str) -> None:
    for lines, kind, line in (
        (f"2 2 1\n1 2 {word}\n", "coordinate", 3),
        (f"1 1\n\n{word}x\n", "array", 4),
    ):
        with pytest.raises(ValueError, match=f"^line {line}: "):
            mtx(lines, f"{kind} integer general")


def test_unsigned_integers() -> None:
    kind = "coordinate unsigned-integer general"
    got = mtx(f"2 2 1\n1 2 {(1 << 64) - 1}\n", kind)
    assert got.dtype == np.uint64 and int(got[0, 1]) == (1 << 64) - 1
    for bad in ("-1", str(1 << 64)):
        with pytest.raises(ValueError, match="line 3: value"):
            mtx(f"2 2 1\n1 2 {bad}\n", kind)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("3 3 2\n1 1 1\n", r"the file ends after 1 entries: line 2 says 2"),
        ("3 3 1\n1 1 1\n\n2 2 2\n", "line 5: expected the end of the file: line 2 says 1 entry"),
        ("3 3 1\n0 1 1\n", "line 3: row '0': expected 1 to 3"),
        ("3 3 1\n1 4 1\n", "line 3: column '4': expected 1 to 3"),
        ("3 3 1\n-1 1 1\n", "line 3: row '-1': expected 1 to 3"),
        ("3 3 1\n1.0 1 1\n", "line 3: row '1.0': expected 1 to 3"),
        ("3 3 1\n1 99999999999999999999999 1\n", "line 3: column '9+': expected"),
        ("3 3 1\n1 1\n", "line 3: '1 1': 2 fields: expected row, column, value"),
        ("3 3 1\n1 1 1 1\n", "line 3: '1 1 1 1': 4 fields: expected row, column, value"),
        ("3 3\n1 1 1\n", "line 2: '3 3': 2 fields: expected 3 numbers: rows, columns, entries"),
        ("3 -3 1\n1 1 1\n", "line 2: columns '-3': expected 0 or more"),
        ("3 x 1\n", "line 2: columns 'x': expected 3 numbers"),
        ("", "line 2: the end of the file: expected 3 numbers"),
        ("% only\n%\n\n", "line 5: the end of the file: expected 3 numbers"),
        ("3 3 1000000000000000\n1 1 1\n", "the file ends after 1 entries: line 2 says 10+$"),
        (f"{1 << 70} 3 1\n1 1 1\n", r"line 2: rows '1180\d+': expected 3 numbers"),
    ],
)
def test_lines_that_contradict_each_other(lines: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        mtx(lines)


@pytest.mark.parametrize(
    ("banner", "message"),
    [
        ("hello", "line 1: 'hello': expected %%MatrixMarket"),
        ("", "line 1: '': expected %%MatrixMarket"),
        ("<!DOCTYPE html><html>", "line 1: '<!DOCTYPE html><html>': expected %%MatrixMarket"),
        ("version https://git-lfs.github.com/spec/v1", "line 1: 'version .*: expected %%Matrix"),
        ("%%MatrixMarket matrix coordinate", "expected %%MatrixMarket matrix, format, field and"),
        ("%%MatrixMarket vector coordinate real general", "object 'vector': expected matrix"),
        ("%%MatrixMarket matrix dense real general", "format 'dense': expected coordinate or"),
        ("%%MatrixMarket matrix array float general", "field 'float': expected real"),
        ("%%MatrixMarket matrix array real upper", "symmetry 'upper': expected general"),
        ("%%MatrixMarket matrix array pattern general", "array of field pattern"),
        ("%%MatrixMarket matrix coordinate pattern skew-symmetric", "skew-symmetric pattern"),
        ("%%MatrixMarket matrix coordinate real hermitian", "hermitian real: expected complex"),
        ("%%MatrixMarket matrix coordinate real symmetric", "line 2: 1 x 2: expected a square"),
    ],
)  # fmt: skip
def test_bad_headers(banner: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_mtx(io.BytesIO(f"{banner}\n1 2 1\n1 1 1\n".encode()))


def test_what_the_format_leaves_open() -> None:
    """Case, comments, blank lines, white space at both ends, other systems' ends of lines."""
    expected = np.array([[0, 2.5], [-10, 0]])
    lines = "%%matrixmarket MATRIX Coordinate REAL General\n"
    lines += "% c\n\n2 2 2\n 1\t2 2.5 \n\n% c\n2 1 -1d1"
    for end in ("\n", "\r\n"):
        for last in ("", end, end * 3):
            for mark in ("", "\ufeff"):
                data = (mark + lines.replace("\n", end) + last).encode()
                np.testing.assert_array_equal(read_mtx(io.BytesIO(data)).toarray(), expected)
                entries = data.split(b"2 2 2")[1].replace(b"%", b"#")
                got = read_tns(io.BytesIO(mark.encode() + entries))
                np.testing.assert_array_equal(got.toarray(), expected)
    empty = mtx("0 3 0\n")
    assert empty.shape == (0, 3) and empty.nnz == 0


def test_duplicates_are_summed() -> None:
    got = mtx("2 2 3\n1 1 1.5\n2 2 1\n1 1 2\n")
    assert got.nnz == 2 and got[0, 0] == 3.5
    largest = (1 << 63) - 1
    with pytest.raises(ValueError, match=r"duplicates with a sum of 1.84467e\+19: expected 64"):
        mtx(f"2 2 2\n1 1 {largest}\n1 1 {largest}\n", "coordinate integer general")


def test_symmetries() -> None:
    lines = "3 3 3\n1 1 1\n2 1 5\n3 2 -7\n"
    full = [[1, 5, 0], [5, 0, -7], [0, -7, 0]]
    np.testing.assert_array_equal(mtx(lines, "coordinate real symmetric").toarray(), full)
    above = "3 3 3\n1 1 1\n1 2 5\n3 2 -7\n"
    np.testing.assert_array_equal(mtx(above, "coordinate real symmetric").toarray(), full)
    skew = mtx("2 2 2\n2 1 5\n1 1 0\n", "coordinate integer skew-symmetric").toarray()
    np.testing.assert_array_equal(skew, [[0, -5], [5, 0]])
    with pytest.raises(ValueError, match="line 3: value on the diagonal '5': expected 0"):
        mtx("2 2 1\n1 1 5\n", "coordinate real skew-symmetric")
    with pytest.raises(ValueError, match=r"entries \(2, 1\) and \(1, 2\) of a symmetric matrix"):
        mtx("3 3 3\n1 2 1\n3 2 1\n2 1 1\n", "coordinate real symmetric")
    hermitian = mtx("2 2 2\n1 1 4 0\n2 1 1 2\n", "coordinate complex hermitian").toarray()
    np.testing.assert_array_equal(hermitian, [[4, 1 - 2j], [1 + 2j, 0]])
    with pytest.raises(ValueError, match="line 3: imaginary part on the diagonal '1'"):
        mtx("2 2 1\n1 1 4 1\n", "coordinate complex hermitian")
    pattern = mtx("2 2 1\n2 1\n", "coordinate pattern symmetric").toarray()
    np.testing.assert_array_equal(pattern, [[0, 1], [1, 0]])


def test_arrays() -> None:
    got = mtx("2 3\n1\n2\n3\n4\n5\n6\n", "array integer general")
    np.testing.assert_array_equal(got, [[1, 3, 5], [2, 4, 6]])
    got = mtx("3 3\n1\n2\n3\n4\n5\n6\n", "array real symmetric")
    np.testing.assert_array_equal(got, [[1, 2, 3], [2, 4, 5], [3, 5, 6]])
    got = mtx("3 3\n2\n3\n5\n", "array real skew-symmetric")
    np.testing.assert_array_equal(got, [[0, -2, -3], [2, 0, -5], [3, 5, 0]])
    got = mtx("2 2\n1 0\n2 3\n4 0\n", "array complex hermitian")
    np.testing.assert_array_equal(got, [[1, 2 - 3j], [2 + 3j, 4]])
    with pytest.raises(ValueError, match="the file ends after 3 entries: line 2 says 4"):
        mtx("2 2\n1\n2\n3\n", "array real general")
    with pytest.raises(ValueError, match="line 3: '1 2': 2 fields: expected one entry: value"):
        mtx("2 2\n1 2\n3 4\n", "array real general")
    with pytest.raises(ValueError, match="line 7: expected the end of the file"):
        mtx("2 2\n1\n2\n3\n4\n5\n", "array real general")


@pytest.mark.parametrize("field", ["real", "integer", "complex", "pattern"])
@pytest.mark.parametrize("symmetry", ["general", "symmetric", "skew-symmetric"])
def test_against_scipy(tmp_path: Path, field: str, symmetry: str, monkeypatch) -> None:
    """Also when a file is read in many blocks."""
    if (field, symmetry) == ("pattern", "skew-symmetric"):
        return
    rng = np.random.default_rng(SEED)
    matrix = sp.random_array((60, 60), density=0.2, rng=rng) * 100
    if symmetry != "general":
        matrix = sp.tril(matrix, -1)
    matrix = matrix.astype({"integer": np.int64, "complex": np.complex128}.get(field, np.float64))
    if symmetry != "general":
        matrix = matrix + (matrix.T if symmetry == "symmetric" else -matrix.T)
    file = tmp_path / "a.mtx"
    scipy.io.mmwrite(file, matrix, field=field, symmetry=symmetry, comment="one\n%two")
    for size in (1 << 19, 64):
        monkeypatch.setattr(text, "BLOCK", size)
        got, expected = read_tensor(file), scipy.io.mmread(file)
        assert (got != expected).nnz == 0 and got.dtype == expected.dtype


@pytest.mark.parametrize("kind", ["f4", "f8", "i4", "i8", "u8", "i1"])
def test_what_is_written_is_read_bit_for_bit(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(SEED)
    values = rng.integers(0, 256, (400, np.dtype(kind).itemsize), np.uint8).view(kind)[:, 0]
    values[values == 0] = 1
    at = rng.permutation(10_000)[:400]
    array = np.zeros(10_000, kind)
    array[at] = values
    if np.dtype(kind).kind == "f":
        values[:4] = np.inf, -np.inf, np.finfo(kind).max, np.finfo(kind).smallest_subnormal
        array[at[:4]] = values[:4]
    array = array.reshape(100, 100)
    for name in ("a.mtx", "a.mtx.gz", "a.npz"):
        write_tensor(tmp_path / name, sp.coo_array(array))
        got = read_tensor(tmp_path / name)
        assert same(got.toarray().astype(kind), array)
        assert np.array_equal(got.toarray().astype(kind), array, equal_nan=kind[0] == "f")
    if kind not in ("i8", "u8"):  # a .tns file's values are read as float64
        write_tensor(tmp_path / "a.tns", sp.coo_array(array))
        assert same(read_tensor(tmp_path / "a.tns").toarray().astype(kind), array)


def test_lines_without_an_end_are_refused() -> None:
    data = b"%%MatrixMarket matrix coordinate real general\n2 2 1\n1 1 " + b"1" * (1 << 21)
    with pytest.raises(ValueError, match=r"^line 3: "):
        read_mtx(io.BytesIO(data))


def test_a_tall_matrix_takes_no_room_for_its_rows() -> None:
    got = mtx(f"{1 << 60} 2 3\n{1 << 60} 1 5\n1 1 1\n1 1 1\n")
    assert got.format == "coo" and got.nnz == 2 and got.data.sum() == 7


def test_truncated_gzip(tmp_path: Path) -> None:
    rng = np.random.default_rng(SEED)
    entries = rng.integers(1, 99, (500, 3)).tolist()
    lines = "".join(f"{i} {j} {x}\n" for i, j, x in entries)
    banner = "%%MatrixMarket matrix coordinate real general"
    data = gzip.compress(f"{banner}\n99 99 500\n{lines}".encode())
    for cut in (5, 12, 100, len(data) // 2, len(data) - 9, len(data) - 1):
        (tmp_path / "a.mtx.gz").write_bytes(data[:cut])
        with pytest.raises(ValueError, match=r"a\.mtx\.gz: Compressed file ended before"):
            read_tensor(tmp_path / "a.mtx.gz")
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 0x55
    (tmp_path / "a.mtx.gz").write_bytes(flipped)
    with pytest.raises(ValueError, match=r"a\.mtx\.gz: "):
        read_tensor(tmp_path / "a.mtx.gz")
