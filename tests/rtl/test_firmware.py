"""The C driver: a program's image, loaded and run on the RTL without Python."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

import loopnest
from loopnest import Assignment, Chip, Epilogue
from loopnest.examples.firmware import compile_driver, elements, run_twice, simulate
from loopnest.program.program import Program

from .chips import Pair, on


def draw(rng: np.random.Generator, shape: tuple[int, ...], density: float = 1) -> Any:
    values = rng.integers(-3, 4, shape).astype(np.float64)
    return np.where(rng.random(shape) < density, values, 0)


def dense(value: Any) -> Any:
    """Return a result as an array, zeros with their signs."""
    if not hasattr(value, "levels") and not sp.issparse(value):
        return np.asarray(value)
    coordinates, values = (
        value.to_coo() if hasattr(value, "levels") else (value.tocoo().coords, value.tocoo().data)
    )
    found = np.zeros(value.shape)
    found[tuple(coordinates)] = values
    return found


def every_form(rng: np.random.Generator, chip: Chip) -> tuple[Program, list[dict[str, Any]]]:
    """Return a program with operands and results in many forms, and inputs for it."""
    narrow = Epilogue(scale=1 / 2, out="narrow")
    statements = [
        "transposed[i,j] = B[j,k] * A[i,k]",
        Assignment(statement="sparse[i,j] = A[i,k] * B[j,k]", out="dense,compressed"),
        Assignment(statement="small[i] = A[i,j] * x[j]", epilogue=narrow),
        Assignment(
            statement="keys[i,j,k] = D[i,k] * x[j] * y[k]", out="dense,compressed,compressed"
        ),
        "masked[i,j] = x[i] * y[j] where M[i,j]",
        "window[i] = x[i+j] * w[j]",
        "number = x[i] * x[i]",
    ]
    n = 18

    def inputs(density: float) -> dict[str, Any]:
        hyper = np.where(rng.random((n, 1)) < 0.4, draw(rng, (n, n), density), 0)
        return {
            "A": draw(rng, (n, n), density),
            "B": draw(rng, (7, n)),
            "D": hyper,
            "M": draw(rng, (n, n), density),
            "x": draw(rng, (n,)),
            "y": draw(rng, (n,)),
            "w": draw(rng, (3,)),
        }

    first = inputs(0.4)
    given = first | {name: sp.csr_array(first[name]) for name in "AM"}
    given["D"] = chip.tensor(sp.csr_array(first["D"]), levels="compressed,compressed")
    program = loopnest.compile(statements, given, chip=chip)
    return program, [first, inputs(0.3)]


@on("shrunk/int8", "shrunk/bf16")
def test_every_form_of_operands_and_results(pair: Pair, tmp_path: Path) -> None:
    """In one start and in memory that holds anything: twice, with other inputs."""
    rng = np.random.default_rng(1)
    model = pair.model
    program, runs = every_form(rng, model)
    driver = compile_driver(model.config, tmp_path)
    found = run_twice(program, driver, tmp_path, runs)
    for n, inputs in enumerate(runs):
        given = inputs | {name: sp.csr_array(inputs[name]) for name in "AM"}
        given["D"] = model.tensor(sp.csr_array(inputs["D"]), levels="compressed,compressed")
        expected = program.run(**given)
        assert expected.keys() == found[n].keys()
        for name, value in expected.items():
            wide = name != "small"
            assert found[n][name].tobytes() == elements(dense(value), model.config, wide=wide), name
    image = tmp_path / "program.bin"
    lines = simulate(driver, model.config, image, "tensors", "run", "polling", "counters")
    assert "input x" in lines and "result keys" in lines
    counted = [line.split() for line in lines.splitlines() if " multiplies " in line]
    program()
    assert program.report is not None
    assert int(counted[-1][-1]) == program.report.multiplies


@on("shrunk/int8")
def test_errors(pair: Pair, tmp_path: Path) -> None:
    """Each cause has a text; nothing is started."""
    model = pair.model
    driver = compile_driver(model.config, tmp_path)
    A = sp.csr_array(np.eye(20))
    program = loopnest.compile("y[i] = A[i,j] * x[j]", {"A": A, "x": np.ones(20)}, chip=model)
    (image,) = program.export(tmp_path / "net.bin")
    whole = image.read_bytes()

    def run(data: bytes, *words: str) -> str:
        image.write_bytes(data)
        try:
            return simulate(driver, model.config, image, *words)
        except RuntimeError as error:
            return str(error)

    def changed(at: int, word: int) -> bytes:
        """Return the image with another word of the header, whose sum is right."""
        data = bytearray(whole)
        data[4 * at : 4 * at + 4] = word.to_bytes(4, "little")
        data[12:16] = zlib.crc32(data[16:]).to_bytes(4, "little")
        return bytes(data)

    assert run(whole, "run", "polling") == ""
    assert "no image" in run(b"") and "no image" in run(b"x" * 500)
    assert "another version" in run(changed(1, 99))
    for end in (200, len(whole) - 1):
        assert "truncated or damaged" in run(whole[:end])
    at = len(whole) // 2
    assert "truncated or damaged" in run(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    for table in (11, 13, 15, 17, 18):  # places of tables outside of the file
        assert "truncated or damaged" in run(changed(table, 1 << 31))
    assert "another configuration" in run(changed(4, 0))
    assert "another configuration" in run(changed(5, 3))
    full = tmp_path / "full.raw"
    full.write_bytes(elements(np.ones((20, 20)), model.config))
    assert "more entries than are reserved" in run(whole, "in", "A", str(full))
    assert "no input or result" in run(whole, "out", "x", str(full))
    big, text = tmp_path / "big.raw", ["s[i] = x[i] * x[i]", "y = s[i] * x[i]"]
    big.write_bytes(elements(np.full(1100, 127), model.config))
    (image,) = loopnest.compile(text, {"x": np.ones(1100)}, chip=model).export(image)
    whole = image.read_bytes()
    for way in ("polling", "interrupt"):
        assert "a value does not fit int32" in run(whole, "in", "x", str(big), "run", way)


def test_several_starts(tmp_path: Path) -> None:
    """What the host does between them is the firmware's: each has an image."""
    chip = Chip("shrunk", dtype="int8", backend="model")
    text = ["T[i,j] = A[i,k] * A[k,j]", "d[i] = T[i,i]", "y[i] = 2 * d[i]"]
    program = loopnest.compile(text, {"A": sp.eye_array(9).tocsr()}, chip=chip)
    paths = program.export(tmp_path / "net.bin")
    assert [path.name for path in paths] == ["net-1.bin", "net-2.bin"]
    assert b"T\0" in paths[0].read_bytes() and b"y\0" in paths[1].read_bytes()
    table = (tmp_path / "net.h").read_text()
    first, host, second = (table.index(t) for t in (".image = 1", ".operation", ".image = 2"))
    assert first < host < second and '{"T", 0, 2, {9, 9}}' in table
