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
