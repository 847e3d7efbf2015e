"""No file ends the process, or is refused in more than a line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loopnest.commands.cli import BAD_INPUT, main

SEED = 1
COUNT = 320


def test_damaged_files(tmp_path: Path) -> None:
    """The program's assertions say what has to hold."""
    command = [sys.executable, "-m", "tests.sw.damaged_files", str(tmp_path), str(SEED), str(COUNT)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, (run.returncode, run.stderr[-2000:])
    for line in run.stdout.splitlines():
        suffix, count, good = line.split()
        assert int(count) == COUNT and 0.02 * COUNT < int(good) < 0.9 * COUNT, suffix


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
HTML = b"<!DOCTYPE html>\n<html><body>404</body></html>\n"
BANNER = b"%%MatrixMarket matrix coordinate real general\n"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.mtx", LFS, "line 1: 'version https://git-lfs"),
        ("a.tns", LFS, "line 1: coordinate 'version': expected a whole coordinate from 1"),
        ("a.npy", LFS, "no array of NumPy"),
        ("a.npz", LFS, "not a .npz file"),
        ("a.mtx.gz", LFS, "Not a gzipped file"),
        ("a.mtx", HTML, "line 1: '<!DOCTYPE html>': expected %%MatrixMarket"),
        ("a.tns", HTML, "line 2: '<html><body>404</body></html>': 1 field: expected"),
        ("a.mtx", b"3 3 1\n1 1 1\n", "line 1: '3 3 1': expected %%MatrixMarket"),
        ("a.mtx", b"", "line 1: '': expected %%MatrixMarket"),
        (
            "a.mtx",
            b"%%MatrixMarket vector array real general\n3\n1\n2\n3\n",
            "line 1: object 'vector'",
        ),
        ("a.mtx", BANNER + b"2 2 1\n1 1 1\x00\n", r"line 3: value '1\x00': expected a number"),
        ("a.mtx", BANNER + b"2 2 1\n1 \x00 1\n", r"line 3: column '\x00': expected 1 to 2"),
        ("a.mtx", b"\x00" * 100, "line 1: "),
        ("a.tns", b"1 1 \x00\n", r"line 1: value '\x00': expected a number"),
        ("a.mtx", BANNER.decode().encode("utf-16"), "line 1: "),
        ("a.npy", b"\x80\x04]\x94.", "no array of NumPy: expected a file of `numpy.save`"),
    ],
)
def test_what_is_no_such_file_is_a_one_line_error(tmp_path, name, data, message, capsys) -> None:
    file = tmp_path / name
    file.write_bytes(data)
    assert main(["info", str(file)]) == BAD_INPUT
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"error: {file}: {message}") and err.count("\n") == 1
