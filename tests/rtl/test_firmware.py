"""The C driver: a program's image, loaded and run on the RTL without Python."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

import loopnest
from loopnest import Assignment, Chip, Epilogue
from loopnest.examples.firmware import compile_driver, elements, run_twice, simulate
from loopnest.program.operation import HostOperation
from loopnest.program.program import Program

from .chips import SEVERAL, Pair, on


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


@on(SEVERAL)
def test_counters_of_several_pes(pair: Pair, tmp_path: Path) -> None:
    """The driver finds the cache's and each PE's, and what lies behind them is not overwritten."""
    rng = np.random.default_rng(3)
    model = pair.model
    inputs = {"A": draw(rng, (40, 40), 0.3), "x": draw(rng, (40,))}
    given = inputs | {"A": sp.csr_array(inputs["A"])}
    program = loopnest.compile(["y[i] = A[i,j] * x[j]", "z[i] = A[i,j] * y[j]"], given, chip=model)
    driver = compile_driver(model.config, tmp_path)
    (found,) = run_twice(program, driver, tmp_path, [inputs])
    for name, value in program.run(**given).items():
        assert found[name].tobytes() == elements(dense(value), model.config, wide=True), name
    image = tmp_path / "program.bin"
    before, busy_before = 0, [0] * model.config.pes
    lines = simulate(driver, model.config, image, "run", "polling", "counters").splitlines()
    for kernel in range(2):
        own = [line.split() for line in lines if line.startswith(f"{kernel} ")]
        cycles = int(own[0][2])
        requests, misses = int(own[1][3]), int(own[1][5])
        assert requests > misses > 0
        busy, ends = ([int(words[at]) for words in own[2:]] for at in (4, 7))
        assert len(busy) == model.config.pes
        assert before < max(ends) < cycles
        assert sum(busy) > sum(busy_before)
        before, busy_before = cycles, busy


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


STEPS = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loopnest_steps.h"
#include "net.h"
#include "simulated.h"

enum { IMAGES = 2, MOST = 64, TENSORS = 16, RUNS = 2, ELEMENTS = 24, RESULTS = 12 };

static struct {
    const char *name;
    float elements[MOST];
} kept[TENSORS];

static float *value(void *context, const char *name, uint32_t elements) {
    (void)context;
    for (int n = 0; n < TENSORS; ++n) {
        if (!kept[n].name) kept[n].name = name;
        if (!strcmp(kept[n].name, name)) return elements <= MOST ? kept[n].elements : 0;
    }
    return 0;
}

static void compute(const struct loopnest_step *step) {
    uint32_t count = 1;
    for (uint32_t m = 0; m < step->result.order; ++m) count *= step->result.shape[m];
    const float *from = value(0, step->inputs[0].name, count);
    float *to = value(0, step->result.name, count);
    if (!from || !to || strcmp(step->operation, "abs")) fail(step->operation, "not computed here");
    for (uint32_t n = 0; n < count; ++n) to[n] = from[n] < 0 ? -from[n] : from[n];
}

int main(int count, char **words) {
    if (count != 6) fail("steps", "expected SIMULATOR.so IMAGE IMAGE INPUTS RESULTS");
    struct simulated chips[IMAGES];
    struct loopnest_device devices[IMAGES];
    struct loopnest_program images[IMAGES];
    uint8_t *data[IMAGES];
    size_t bytes[IMAGES];
    uint32_t need[IMAGES];
    for (int n = 0; n < IMAGES; ++n) {
        data[n] = read_file(words[2 + n], &bytes[n]);
        need[n] = (loopnest_memory_bytes(data[n], bytes[n]) + 31u) / 32u * 32u;
    }
    simulated_open(&chips[0], words[1], need[0] + need[1]);
    chips[1] = chips[0];
    chips[1].first = need[0];
    int status = 0;
    for (int n = 0; n < IMAGES && !status; ++n) {
        devices[n] = simulated_device(&chips[n], need[n]);
        status = loopnest_load(&devices[n], &images[n], data[n], bytes[n]);
    }
    size_t given;
    uint8_t *inputs = read_file(words[4], &given);
    FILE *out = fopen(words[5], "wb");
    if (!out || given != sizeof(float) * RUNS * ELEMENTS) fail(words[4], "another size");
    uint32_t scratch[MOST];
    struct loopnest_model model = {
        .steps = net_steps, .step_count = sizeof net_steps / sizeof net_steps[0],
        .images = images, .value = value, .scratch = scratch, .scratch_bytes = sizeof scratch};
    const struct loopnest_step *step = 0;
    for (int run = 0; run < RUNS && !status; ++run) {
        memcpy(value(0, "x", ELEMENTS), inputs + sizeof(float) * ELEMENTS * run,
               sizeof(float) * ELEMENTS);
        do {
            /* too few polls: the next call goes on waiting */
            while ((status = loopnest_resume(&model, 1, &step)) == LOOPNEST_TIMEOUT) continue;
            if (!status && step) compute(step);
        } while (!status && step);
        fwrite(value(0, "y", RESULTS), sizeof(float), RESULTS, out);
    }
    if (status) fail("steps", loopnest_error(&images[0], status));
    fclose(out);
    simulated_close(&chips[0]);
    for (int n = 0; n < IMAGES; ++n) free(data[n]);
    free(inputs);
    return 0;
}
"""


@on("shrunk/bf16", "shrunk/int8")
def test_steps_of_the_host_in_firmware(pair: Pair, tmp_path: Path) -> None:
    """A C program does the steps of the host, and goes on behind them: twice, bit for bit as Python
    does.
    """
    rng = np.random.default_rng(4)
    x, v, w = (draw(rng, shape).astype(np.float32) for shape in ((3, 8), (6, 8), (4, 6)))
    chip = Chip(pair.preset, dtype=pair.dtype, backend="model")
    items: list[Any] = [
        "h[n,o] = x[n,i] * v[o,i]",
        HostOperation(result="a", operator="abs", operands=("h",), shape=(3, 6)),
        "y[n,o] = a[n,i] * w[o,i]",
    ]
    given = [Assignment(statement=item) if isinstance(item, str) else item for item in items]
    program = Program(chip.device, given, {"x": x}, constants={"v": v, "w": w / 2})
    if pair.dtype == "int8":
        program = Program(chip.device, given, {"x": x}, constants={"v": v, "w": w})
    paths = program.export(tmp_path / "net.bin")
    (tmp_path / "steps.c").write_text(STEPS)
    main = compile_driver(chip.config, tmp_path, tmp_path / "steps.c")
    runs = [x, -2 * x[::-1]]
    np.concatenate(runs).tofile(tmp_path / "x.raw")
    simulate(main, chip.config, *paths, tmp_path / "x.raw", tmp_path / "y.raw")
    found = np.fromfile(tmp_path / "y.raw", np.float32).reshape(2, 3, 4)
    for own, each in zip(found, runs, strict=True):
        assert np.array_equal(own, program(each))
