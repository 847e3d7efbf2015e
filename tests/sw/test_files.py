"""Tensors in files: what was written is read again; what is wrong is named."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest.formats.files import check_output, read_tensor, write_tensor


def tensor(*shape: int) -> sp.coo_array:
    rng = np.random.default_rng(1)
    return sp.coo_array(rng.integers(-9, 9, shape) * (rng.random(shape) < 0.3) * 0.5)


def same(a, b) -> bool:
    return a.shape == b.shape and np.array_equal(
        sp.coo_array(a).todense(), sp.coo_array(b).todense()
    )


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *[(name, (5, 7)) for name in ("a.mtx", "a.mtx.gz", "a.tns", "a.tns.gz", "a.npz")],
        *[(name, (3, 4, 6)) for name in ("a.tns", "a.npz")],
        ("a.tns", (9,)),
    ],
)
def test_sparse(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    write_tensor(tmp_path / name, tensor(*shape))
    got = read_tensor(tmp_path / name)
    assert sp.issparse(got) and same(got, tensor(*shape))


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.mtx"])
def test_dense(tmp_path: Path, name: str) -> None:
    array = np.arange(12.0).reshape(3, 4)
    write_tensor(tmp_path / name, array)
    got = read_tensor(tmp_path / name)
    assert isinstance(got, np.ndarray) and np.array_equal(got, array)


def test_tns_of_others(tmp_path: Path) -> None:
    file = tmp_path / "a.tns"
    file.write_text("# a comment\n1 2 3 4.5\n\n2 1 1 -1\n")
    got = read_tensor(file)
    assert got.shape == (2, 2, 3) and got.todense()[0, 1, 2] == 4.5


def test_pydata_sparse(tmp_path: Path) -> None:
    sparse = pytest.importorskip("sparse")
    array = tensor(4, 5, 6).todense()
    sparse.save_npz(tmp_path / "a.npz", sparse.COO.from_numpy(array))
    assert same(read_tensor(tmp_path / "a.npz"), array)
    write_tensor(tmp_path / "b.npz", sp.coo_array(array))
    assert np.array_equal(sparse.load_npz(tmp_path / "b.npz").todense(), array)


@pytest.mark.parametrize("kind", ["COO", "GCXS"])
@pytest.mark.parametrize("fill", [1.0, np.nan, -3, True])
def test_a_fill_value_is_refused(tmp_path: Path, kind: str, fill: object) -> None:
    """What is not stored would have it; the chip has 0 there."""
    sparse = pytest.importorskip("sparse")
    array = np.full((3, 4), fill)
    array[1, 2] = 5
    made = getattr(sparse, kind).from_numpy(array, fill_value=array.dtype.type(fill))
    sparse.save_npz(tmp_path / "a.npz", made)
    with pytest.raises(ValueError, match=f"a.npz: fill value {fill}: expected 0"):
        read_tensor(tmp_path / "a.npz")


@pytest.mark.parametrize("shape", [(7,), (4, 6), (3, 4, 5)])
def test_gcxs(tmp_path: Path, shape: tuple[int, ...]) -> None:
    sparse = pytest.importorskip("sparse")
    array = tensor(*shape).toarray()
    for axes in [None, *([(0,), (1,), (0, 2), (2,)] if len(shape) == 3 else [])]:
        made = sparse.GCXS.from_numpy(array, compressed_axes=axes)
        sparse.save_npz(tmp_path / "a.npz", made)
        assert same(read_tensor(tmp_path / "a.npz"), array)


@pytest.mark.parametrize("layout", ["csr", "csc", "bsr", "coo", "dia"])
@pytest.mark.parametrize("make", [sp.csr_array, sp.csr_matrix])
def test_every_format_of_scipy(tmp_path: Path, layout: str, make) -> None:
    matrix = make(tensor(6, 8)).asformat(layout)
    sp.save_npz(tmp_path / "a.npz", matrix)
    got = read_tensor(tmp_path / "a.npz")
    assert isinstance(got, sp.sparray) and same(got, matrix.toarray())


def test_archives_that_contradict_themselves(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    good = tensor(6, 8).tocsr()
    names = {"data": good.data, "indices": good.indices, "indptr": good.indptr}
    names |= {"shape": np.array(good.shape), "format": np.array("csr")}
    far = good.indices.copy()
    far[3] = 1_000_000
    for changes, message in (
        ({"indices": far}, "indices must be < 8"),
        ({"indices": good.indices * 1.0}, "indices of type float64: expected an array of integers"),
        ({"indptr": good.indptr[:-1]}, "index pointer size"),
        ({"indptr": None}, "no array 'indptr'"),
        ({"shape": np.array([6.5, 8])}, "shape of type float64: expected integers"),
        ({"shape": np.array([6, 8, 1])}, r"csr array of shape \(6, 8, 1\): expected a matrix"),
        ({"format": np.array("lil")}, "format 'lil': expected csr, csc, bsr, coo, dia or gcxs"),
        ({"data": np.array(["a"])}, "values of type <U1: expected numbers"),
        ({"data": np.array([None])}, r"values of type object \(pickled\): expected numbers"),
    ):
        arrays = {name: a for name, a in (names | changes).items() if a is not None}
        np.savez(file, **arrays)
        with pytest.raises(ValueError, match=rf"a\.npz: {message}"):
            read_tensor(file)


def test_headers_promise_nothing(tmp_path: Path) -> None:
    """Neither memory nor objects."""
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }"
    start = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header.encode() + b"\n"
    (tmp_path / "a.npy").write_bytes(start + bytes(80))
    with pytest.raises(ValueError, match="ends after 80 of the 8000000000000 bytes"):
        read_tensor(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.array([{}, None]))
    with pytest.raises(ValueError, match=r"b\.npy: values of type object \(pickled\)"):
        read_tensor(tmp_path / "b.npy")


@pytest.mark.parametrize("kind", ["<f4", ">f4", ">i8", "f2", "?", "c8"])
def test_every_type_of_numpy(tmp_path: Path, kind: str) -> None:
    array = np.asfortranarray(np.arange(12).reshape(3, 4).astype(kind))
    for write, name in ((np.save, "a.npy"), (np.savez, "a.npz")):
        write(tmp_path / name, array)
        got = read_tensor(tmp_path / name)
        assert np.array_equal(got, array) and got.dtype == array.dtype.newbyteorder("=")


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "1,2", "expected a file whose name ends with .mtx, .tns, .npz, .npy"),
        ("a.mtx", "hello", "a.mtx: "),
        ("a.npz", "hello", "a.npz: "),
        ("a.tns", "1 1 2\n1 1 1 2\n", "line 2: '1 1 1 2': 4 fields: expected 3"),
        *[
            ("a.tns", f"{bad} 1 2\n", f"a.tns: line 1: coordinate '{shown}': expected a whole")
            for bad, shown in [(0, 0), (1.5, 1.5), ("nan", "nan"), (1e23, r"1e\+23")]
        ],
        ("a.tns", "4.5\n", "a.tns: line 1: '4.5': expected coordinates and a value"),
        ("a.mtx.gz", "hello", "a.mtx.gz: Not a gzipped file"),
        ("a.tns", "# shape: 2 2\n3 1 2\n", r"shape \(2, 2\): entries at \(3, 1\)"),
        ("a.tns", "# nothing\n", "no entries and no shape"),
        ("a.tns", "a b c\n", "a.tns: line 1: coordinate 'a': expected a whole coordinate"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_tensor(tmp_path / name)


def test_arrays_of_no_numbers(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array(["b", "c"]))
    with pytest.raises(ValueError, match=r"a\.npy: values of type <U1: expected numbers"):
        read_tensor(tmp_path / "a.npy")


def test_missing_and_cut_off(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        read_tensor(tmp_path / "a.mtx")
    (tmp_path / "a.tns.gz").write_bytes(gzip.compress(b"1 1 1\n")[:-9])
    with pytest.raises(ValueError, match=r"a\.tns\.gz: "):
        read_tensor(tmp_path / "a.tns.gz")


def test_what_a_format_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"order 3: a \.mtx file holds matrices"):
        write_tensor(tmp_path / "a.mtx", tensor(2, 2, 2))
    with pytest.raises(ValueError, match=r"a sparse tensor: a \.npy file holds dense ones"):
        write_tensor(tmp_path / "a.npy", tensor(2, 2))
    with pytest.raises(ValueError, match=r"a number: a \.tns file has coordinates"):
        write_tensor(tmp_path / "a.tns", np.array(3.0))
    with pytest.raises(ValueError, match=r"a \.npz file is compressed already"):
        write_tensor(tmp_path / "a.npz.gz", np.ones(3))
    assert not list(tmp_path.iterdir())


def test_outputs_are_checked_before(tmp_path: Path) -> None:
    (tmp_path / "folder.npy").mkdir()
    for bad in ("nowhere/a.npy", "folder.npy"):
        with pytest.raises(ValueError, match=f"{bad}: expected a writable file"):
            check_output(tmp_path / bad, 1, sparse=False)
    check_output(tmp_path / "a.npy", 1, sparse=False)
    assert not (tmp_path / "a.npy").exists()
