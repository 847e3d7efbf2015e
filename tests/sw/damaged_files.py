"""Reads files damaged in many ways: ``python -m tests.sw.damaged_files FOLDER SEED COUNT``.

It is a program of its own, since a reader at fault may end its process.
"""

import gzip
import io
import random
import sys
from pathlib import Path

import numpy as np
import scipy.io
import scipy.sparse as sp

from loopnest.commands.info import file_info
from loopnest.formats.files import read_tensor

WORDS = [
    b"0", b"-1", b"1", b"3", b"99999999999999999999", b"9223372036854775807", b"1e400", b"nan",
    b"-inf", b"1.5d3", b"x", b"\x00", b"%", b"#", b"# shape: 3 3", b"\n", b"\r", b" ", b"", b",",
    b"%%MatrixMarket", b"vector", b"array", b"pattern", b"complex", b"integer", b"symmetric",
    b"skew-symmetric", b"hermitian", b"4294967297", b"1099511627776", b"\xff", b"'", b"(",
]  # fmt: skip


def sound(rng: random.Random, suffix: str) -> bytes:
    """Return a file without faults."""
    matrix = sp.random_array((6, 6), density=0.4, rng=rng.randrange(1 << 30)) * 10
    kind = rng.choice(["f8", "i4", "c16", "f4"])
    matrix = matrix.astype(kind) if rng.random() < 0.5 else matrix
    file = io.BytesIO()
    if suffix == ".mtx":
        if rng.random() < 0.4:
            matrix = matrix + matrix.T
        scipy.io.mmwrite(file, matrix.toarray() if rng.random() < 0.3 else matrix)
    elif suffix == ".tns":
        coo = matrix.real.tocoo()
        lines = [f"{i + 1} {j + 1} {x}" for i, j, x in zip(*coo.coords, coo.data, strict=True)]
        file.write("\n".join(["# shape: 6 6", *lines]).encode())
    elif suffix == ".npy":
        np.save(file, matrix.toarray())
    else:
        layout = rng.choice(["csr", "csc", "bsr", "coo", "dia", "gcxs", "any", "dense"])
        arrays = {"data": matrix.tocsr().data, "shape": np.array([6, 6])}
        arrays |= {"indices": matrix.tocsr().indices, "indptr": matrix.tocsr().indptr}
        if layout == "gcxs":
            arrays |= {"format": np.array("gcxs"), "fill_value": np.array(0.0)}
            arrays["compressed_axes"] = np.array([0])
        elif layout == "any":
            arrays |= {"coords": np.array(matrix.tocoo().coords), "fill_value": np.array(0)}
        if layout in ("gcxs", "any"):
            np.savez(file, **arrays)
        elif layout == "dense":
            np.savez_compressed(file, matrix.toarray())
        else:
            sp.save_npz(file, matrix.asformat(layout))
    return file.getvalue()


def damage(rng: random.Random, data: bytes, suffix: str) -> bytes:
    """Return the file with one to three faults."""
    if suffix == ".npz" and rng.random() < 0.7:
        return damage_arrays(rng, data)
    for _ in range(rng.randint(1, 3)):
        at, length = rng.randint(0, len(data)), rng.choice([0, 1, 1, 2, 8, 40])
        part = data[at : at + length]
        new = rng.choice([rng.choice(WORDS), rng.randbytes(length), part * 2, b" ", b""])
        if rng.random() < 0.1:
            at, part, new = at, data[at:], b""
        data = data[:at] + new + data[at + len(part) :]
    return data


def damage_arrays(rng: random.Random, data: bytes) -> bytes:
    """Return a .npz file one of whose arrays has another number, type, length, or no name."""
    with np.load(io.BytesIO(data)) as file:
        arrays = {name: file[name] for name in file.files}
    name = rng.choice(list(arrays))
    array = arrays[name].copy()
    fault = rng.randint(0, 5)
    if fault == 0:
        del arrays[name]
    elif fault == 1 and array.dtype.kind in "if":
        arrays[name] = array.astype(rng.choice(["f4", "u8", "i1", "c8", "U4", "?", ">i4"]))
    elif fault == 2:
        arrays[name] = array[..., :-1] if array.ndim else array[None]
    elif fault == 3 and array.dtype.kind in "if":
        arrays[name] = array.reshape(-1, *rng.choice([(1,), (1, 1), ()]))
    elif array.size and array.dtype.kind in "if":
        number = rng.choice([-1, 0, 7, 100, 1 << 30, -(1 << 31)])
        array.reshape(-1)[rng.randrange(array.size)] = number
        arrays[name] = array
    if rng.random() < 0.1:
        arrays["object"] = np.array([None, {}])
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def read(file: Path) -> bool:
    """Return whether a file could be read; it must be, or be refused in a line that names it."""
    try:
        tensor = read_tensor(file)
    except ValueError as error:
        message = str(error)
        assert message.startswith(f"{file}: ") and message.isprintable(), message
        assert "llocate" not in message, message  # it promised more than there was
        return False
    assert isinstance(tensor, np.ndarray) or sp.issparse(tensor)
    file_info(file, "bf16")
    return True


def main(folder: Path, seed: int, count: int) -> None:
    """Read ``count`` damaged files of each format, and print how many of them could be read."""
    for suffix in (".mtx", ".tns", ".npy", ".npz"):
        rng = random.Random(seed)
        good = 0
        for case in range(count):
            data = damage(rng, sound(rng, suffix), suffix)
            file = folder / f"{case}{suffix}"
            if rng.random() < 0.1 and suffix != ".npz":
                file = folder / f"{case}{suffix}.gz"
                data = damage(rng, gzip.compress(data), suffix) if case % 2 else gzip.compress(data)
            file.write_bytes(data)
            good += read(file)
        print(suffix, count, good)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
