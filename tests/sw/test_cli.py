"""The command line."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from loopnest.commands.cli import BAD_INPUT, CHIP_ERROR, OK, main
from loopnest.formats.files import read_tensor, write_tensor

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


def test_explain(files, capsys):
    a, b, _ = files
    words = ["explain", "C[i,k] = A[i,j] * B[j,k]", f"A={a}", f"B={b}"]

    def shown(*options: str) -> str:
        assert main([*words, *options]) == OK
        return capsys.readouterr().out

    assert "for j in A" in shown()
    assert shown("--latency", "1000") != shown()
    assert "2 compressed result fibers" in shown()
    assert "2 dense result fibers" in shown("--out", "dense,dense")


def test_info(files, tmp_path, capsys):
    np.save(tmp_path / "s.npy", np.array(3.0))
    assert main(["info", files[0], str(tmp_path / "s.npy")]) == OK
    shown = capsys.readouterr().out
    assert "2 x 3" in shown and "a number" in shown


def test_info_says_what_compute_refuses(tmp_path, capsys):
    def told(array) -> tuple[int, list[str], str]:
        file = str(tmp_path / "a.npz")
        write_tensor(file, sp.coo_array(array) if np.ndim(array) else np.array(array))
        code = main(["info", file])
        out, err = capsys.readouterr()
        lines = [line.removeprefix(file) for line in out.splitlines() if line.startswith(file)]
        return code, lines, err.replace(file, "file")

    assert told(np.array([[0, 1], [2, 3]])) == (OK, [], "")
    integer = "expected an integer from -128 to 127"
    for value in (0.5, 300, np.nan, np.inf):
        x = np.array([[0, 1], [2, value]])
        value = x[1, 1]
        assert told(x) == (OK, [f": refused as int8: value {value} at (1, 1): {integer}"], "")
    assert told(np.array([0, 1e300])) == (
        OK,
        [
            f": refused as int8: value 1e+300 at (1): {integer}",
            ": as bf16: value 1e+300 at (1): beyond the range of bf16, stored as infinity",
        ],
        "",
    )
    why = "values of type complex128, first 1j at (1): expected real numbers"
    assert told(np.array([0, 1j])) == (
        BAD_INPUT, [f": refused as int8 and bf16: {why}"], f"error: file: {why}\n",
    )  # fmt: skip
    large = sp.coo_array(([1.0], ([1 << 32], [0])), ((1 << 32) + 1, 1))
    code, lines, _ = told(large)
    assert code == BAD_INPUT
    assert "size 4294967297 in shape (4294967297, 1): expected 0 to 2^32" in lines[0]


def test_a_warning_is_a_line(tmp_path, capsys):
    file = str(tmp_path / "a.npy")
    np.save(file, np.array([1, 1e300]))
    assert main(["einsum", "i->i", file, "--backend", "model", "-o", str(tmp_path / "y.npy")]) == OK
    lines = capsys.readouterr().err.splitlines()
    text = "warning: A: value 1e+300 at (1): beyond the range of bf16, stored as infinity"
    assert [line for line in lines if "1e+300" in line] == [text]


def test_a_npy_file_asks_for_a_dense_result(files, tmp_path):
    a, b, _ = files
    c = str(tmp_path / "C.npy")
    assert main(["einsum", "ij,jk->ik", a, b, "-o", c, *MODEL]) == OK
    assert np.array_equal(read_tensor(c), (A @ B).todense())


def test_outputs_are_checked_before_the_run(files, tmp_path, monkeypatch, capsys):
    a = files[0]
    monkeypatch.setattr("loopnest.commands.statements.Chip", None)
    nowhere = str(tmp_path / "nowhere" / "y.npy")
    for words, message in (
        (["-o", "y.mtx"], "y.mtx: a tensor of order 1: a .mtx file holds matrices"),
        (["-o", "y.txt"], "y.txt: expected a file whose name ends with"),
        (["-o", nowhere], f"{nowhere}: expected a writable file"),
        (["-o", "y.npy", "--out", "compressed"], "y.npy: a sparse tensor"),
        (["--report", nowhere], f"{nowhere}: expected a writable file"),
        (["--plot", nowhere], f"{nowhere}: expected a writable file"),
        (["--trace", nowhere], f"{nowhere}: expected a writable file"),
        (["--plot", str(tmp_path / "y.npy")], "y.npy': expected the suffix of one of"),
        (["--plot", str(tmp_path / "y.png"), *MODEL], "--plot: 'model' counts no cycles: expected"),
        (["--trace", str(tmp_path / "y.json"), *MODEL], "--trace: 'model' counts no cycles"),
    ):
        for command in (["einsum", "ij->i", a], ["compute", "y[i] = A[i,j]", f"A={a}"]):
            assert main([*command, *words]) == BAD_INPUT
            assert message in capsys.readouterr().err


def test_verilog(tmp_path, monkeypatch, capsys):
    text = "module loopnest;\nendmodule // {}\n"
    monkeypatch.setattr("loopnest_hw.export.chip_verilog", lambda config: text.format(config.slots))
    words = ["verilog", "--preset", "tiny", "--set", "slots=100", "--output"]
    assert main([*words, str(tmp_path)]) == OK
    assert (tmp_path / "loopnest.v").read_text().endswith("endmodule // 100\n")
    assert set(capsys.readouterr().out.split()) == {str(p) for p in tmp_path.iterdir()}
    assert main([*words, "/dev/null/x"]) == BAD_INPUT
    assert "/dev/null/x: not a directory" in capsys.readouterr().err


def test_as_a_module():
    command = [sys.executable, "-m", "loopnest", "verilog", "--preset", "huge"]
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert run.returncode == BAD_INPUT and run.stderr.startswith("usage: loopnest verilog")


def run_main(*words: str, **options: Any) -> subprocess.Popen[str]:
    """Start the command line as a program of its own."""
    settings = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": ""}
    command = [sys.executable, "-m", "loopnest", *words]
    environment = os.environ | settings
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, **options)


def test_a_closed_pipe(files):
    """As in ``loopnest ... | head``: no message, and the exit code of SIGPIPE."""
    a, b, _ = files
    for words in (["einsum", "ij,jk->ik", a, b, *MODEL], ["info", a], ["--help"]):
        reader, writer = os.pipe()
        os.close(reader)
        with run_main(*words, stdout=writer) as run:
            os.close(writer)
            errors = run.communicate()[1]
        assert run.returncode == 128 + signal.SIGPIPE
        assert "Broken" not in errors and "Traceback" not in errors


def test_an_interrupt(tmp_path):
    """One line, and the exit code of SIGINT."""
    file = tmp_path / "waiting.mtx"
    os.mkfifo(file)
    with run_main("info", str(file), stdout=subprocess.DEVNULL) as run:
        with open(file, "w"):  # it has begun to read
            run.send_signal(signal.SIGINT)
            errors = run.communicate(timeout=60)[1]
    assert run.returncode == 128 + signal.SIGINT
    assert errors == "interrupted\n"


def test_an_interrupt_while_the_program_is_imported():
    """The program's module imports nothing that takes time before it handles interrupts."""
    code = """
import sys

class Interrupt:
    def find_spec(self, name, *rest):
        if name in ("loopnest", "numpy"):
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
from loopnest_command import main
sys.exit(main(["--version"]))
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + signal.SIGINT, "interrupted\n")


@pytest.mark.parametrize("name", ["loopnest", "loopnest.examples.digits", "loopnest.benchmarks"])
def test_an_interrupt_while_a_module_is_imported(name, tmp_path):
    """One line; the signal ends the process, so a shell's exit code is that of SIGINT."""
    (tmp_path / "sitecustomize.py").write_text("""
import sys

class Interrupt:
    def find_spec(self, name, *rest):
        if name == "numpy":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
""")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-m", name, "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "interrupted\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["einsum", "ij,jk->ik", "{a}", *MODEL], "2 terms for 1 operand\n"),
        (["einsum", "ij,jk->ik", "{a}", "{a}", *MODEL], "index 'j' has size 3 in"),
        (
            ["einsum", "ij->i", "nowhere.mtx", *MODEL],
            "error: nowhere.mtx: no such file or directory\n",
        ),
        (["einsum", "ij->i", "{a}", "--set", "slots", *MODEL], "expected FIELD=NUMBER"),
        (["compute", "C[i,k] = A[i,k]", "{a}", *MODEL], "expected NAME=FILE or NAME=number"),
        (["compute", "C[i,k] = A[i,k]", "B={a}", *MODEL], "operand 'B'"),
        *[
            (["einsum", "ij->i", "{a}", "--set", f"{name}=3"], f"config field '{name}'")
            for name in ("preset", "dtype", "memory", "self")
        ],
        (["explain", "t = A[i,j]", "A={a}", "--set", "preset=3"], "config field 'preset'"),
        (["verilog", "--set", "preset=3"], "config field 'preset'"),
        (["compute", "y[i] = x * A[i,j]", "A={a}", "x=2", "x=3"], "'x=3': 'x' is given twice"),
        (["info", "{five}"], "five.npy: shape (2, 2, 2, 2, 2)"),
    ],
)
def test_bad_input(files, words, message, capsys):
    five = Path(files[0]).with_name("five.npy")
    np.save(five, np.ones((2,) * 5))
    assert main([word.format(a=files[0], five=five) for word in words]) == BAD_INPUT
    assert message in capsys.readouterr().err


def test_a_chip_error(tmp_path, capsys):
    big = str(tmp_path / "a.npy")
    write_tensor(big, np.full((1, 140_000), 127.0))
    assert main(["einsum", "ij,ij->i", big, big, *MODEL]) == CHIP_ERROR
    assert "OVERFLOW" in capsys.readouterr().err


def test_bad_arguments():
    with pytest.raises(SystemExit) as error:
        main(["einsum"])
    assert error.value.code == BAD_INPUT
