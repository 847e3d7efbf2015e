"""The command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest.cli import BAD_INPUT, CHIP_ERROR, OK, main
from loopnest.files import read_tensor, write_tensor

MODEL = ("--backend", "model", "--dtype", "int8")
A = sp.csr_array(np.array([[1, 0, 2], [0, 3, 0]]))
B = sp.csr_array(np.array([[4, 0], [0, 5], [6, 0]]))


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str, str]:
    """Return files with two matrices, and one that is not there yet."""
    names = tuple(str(tmp_path / name) for name in ("A.mtx", "B.mtx", "C.mtx"))
    write_tensor(names[0], A)
    write_tensor(names[1], B)
    return names


def test_einsum(files, tmp_path, capsys):
    a, b, c = files
    report = tmp_path / "report.json"
    arguments = ["einsum", "ij,jk->ik", a, b, "-o", c, "--report", str(report), *MODEL]
    assert main(arguments) == OK
    assert (read_tensor(c) != A @ B).nnz == 0
    assert json.loads(report.read_text())["multiplies"] == 3
    out, err = capsys.readouterr()
    assert out == "" and "multiplies" in err


def test_compute(files, capsys):
    a, b, _ = files
    text = "C[i,k] = s * A[i,j] * B[j,k]"
    assert main(["compute", text, f"A={a}", f"B={b}", "s=2", "--order", "ijk", *MODEL]) == OK
    assert capsys.readouterr().out.splitlines() == ["0 0 32", "1 1 30"]
    assert main(["compute", "y[i] = A[i,j]", f"A={a}", "--out", "dense", *MODEL]) == OK
    assert capsys.readouterr().out == "[3 3]\n"


def test_masks(files, tmp_path, capsys):
    a, b, _ = files
    mask = str(tmp_path / "mask.mtx")
    write_tensor(mask, sp.csr_array(np.array([[1, 0], [0, 0]])))
    words = [a, b, "--mask", mask, *MODEL]
    assert main(["einsum", "ij,jk->ik", *words]) == OK
    assert capsys.readouterr().out == "0 0 16\n"
    operands = [f"A={a}", f"B={b}", "--mask", mask, "--complement"]
    assert main(["compute", "C[i,k] = A[i,j] * B[j,k]", *operands, *MODEL]) == OK
    assert capsys.readouterr().out == "1 1 15\n"
    assert main(["explain", "C[i,k] = A[i,j] * B[j,k]", *operands]) == OK
    assert " - mask" in capsys.readouterr().out
    assert main(["einsum", "ij->i", a, "--complement", *MODEL]) == BAD_INPUT


def test_explain_and_info(files, capsys):
    a, b, _ = files
    assert main(["explain", "C[i,k] = A[i,j] * B[j,k]", f"A={a}", f"B={b}"]) == OK
    assert "for j in A" in capsys.readouterr().out
    assert main(["info", a]) == OK
    assert "2 x 3" in capsys.readouterr().out


def test_verilog(tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr("loopnest.cli.export.main", lambda words: found.append(words) or 0)
    assert main(["verilog", "--preset", "tiny"]) == OK
    assert found == [["--preset", "tiny"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["einsum", "ij,jk->ik", "{a}", *MODEL], "2 terms for 1 operands"),
        (["einsum", "ij,jk->ik", "{a}", "{a}", *MODEL], "index 'j' has size 3 in"),
        (["einsum", "ij->i", "nowhere.mtx", *MODEL], "nowhere.mtx"),
        (["einsum", "ij->i", "{a}", "--set", "slots", *MODEL], "expected FIELD=NUMBER"),
        (["compute", "C[i,k] = A[i,k]", "{a}", *MODEL], "expected NAME=FILE or NAME=number"),
        (["compute", "C[i,k] = A[i,k]", "B={a}", *MODEL], "operand 'B'"),
        (["einsum", "ij->i", "{a}", "-o", "x.mtx", *MODEL], "a .mtx file holds matrices"),
    ],
)
def test_bad_input(files, words, message, capsys):
    assert main([word.format(a=files[0]) for word in words]) == BAD_INPUT
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_chip_error(tmp_path, capsys):
    big = str(tmp_path / "a.npy")
    write_tensor(big, np.full((1, 140_000), 127.0))
    assert main(["einsum", "ij,ij->i", big, big, *MODEL]) == CHIP_ERROR
    assert "OVERFLOW" in capsys.readouterr().err


def test_bad_arguments():
    with pytest.raises(SystemExit) as error:
        main(["einsum"])
    assert error.value.code == BAD_INPUT
