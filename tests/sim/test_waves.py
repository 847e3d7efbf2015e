"""Waves: their format, their window of cycles, and the compressor of FST files."""

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loopnest_sim.waves
from loopnest_sim.simulator import Simulator
from loopnest_sim.waves import LZ4, make_waves
from tests.sim.copier import SCRATCH
from tests.sim.test_simulator import design

HEADER_LENGTH = 329
"""Of an FST file's first block, which has the times of its first and last change."""


def record(waves: Any, cycles: int = 300) -> Path:
    sim = Simulator(design(), top="copier", waves=waves)
    sim.set_register(SCRATCH, 99)
    sim.step(cycles - sim.cycle)
    sim.close()
    assert sim.waves is not None
    return sim.waves


@pytest.fixture(params=["fst", "vcd"])
def format(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "fst" and loopnest_sim.waves.trace_format() != "fst":
        pytest.skip("zlib's header is not installed")
    monkeypatch.setattr(loopnest_sim.waves, "trace_format", lambda: request.param)
    return str(request.param)


def times(file: Path) -> tuple[int, int]:
    """Return the first and the last time that a file of waves has."""
    content = file.read_bytes()
    if file.suffix == ".fst":
        assert content[0] == 0
        assert int.from_bytes(content[1:9], "big") == HEADER_LENGTH
        return int.from_bytes(content[9:17], "big"), int.from_bytes(content[17:25], "big")
    found = [int(line[1:]) for line in content.split(b"\n") if line.startswith(b"#")]
    return found[0], found[-1]


def test_whole_run(format: str, tmp_path: Path) -> None:
    file = record(tmp_path / "waves" / "copy.txt")
    assert file == tmp_path / "waves" / f"copy.{format}"
    assert times(file) == (0, 300_500)
    if format == "vcd":
        assert b"m_axi_araddr" in file.read_bytes()


def test_window(format: str, tmp_path: Path) -> None:
    """A cycle is a nanosecond, and only those from the first to the last are there."""
    assert times(record((tmp_path / "copy", 100, 119))) == (100_000, 119_500)
    assert times(record((tmp_path / "copy", 290, 10_000))) == (290_000, 300_500)
    assert record((tmp_path / "copy", 5000, 6000)).stat().st_size < 20_000


@pytest.mark.parametrize("waves", [3, None, ("file", 1), ("file", 1, 2.5), ("file", True, 2), b"f"])
def test_types(waves: Any) -> None:
    with pytest.raises(TypeError, match=r"waves=.*: expected a file or \(\"file\", first cycle"):
        make_waves(waves)


@pytest.mark.parametrize("limits", [(-1, 5), (7, 6)])
def test_ranges(limits: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="expected 0 <= first cycle <= last cycle"):
        make_waves(("file", *limits))


def expand(block: bytes) -> bytes:
    """Return what a block in LZ4's format holds, by the format's description."""
    out = bytearray()
    at = 0

    def length(nibble: int) -> int:
        nonlocal at
        while nibble >= 15:
            at += 1
            nibble += block[at - 1]
            if block[at - 1] < 255:
                break
        return nibble

    while True:
        token = block[at]
        at += 1
        literals = length(token >> 4)
        out += block[at : at + literals]
        at += literals
        if at == len(block):
            assert token & 15 == 0
            return bytes(out)
        offset = block[at] | block[at + 1] << 8
        at += 2
        assert 0 < offset <= len(out)
        start = len(out)
        for n in range(length(token & 15) + 4):
            out.append(out[start + n - offset])
        # the format's rules for the end of a block
        assert len(block) - at > 5


@pytest.fixture(scope="session")
def compressor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lz4")
    (folder / "main.cpp").write_text(
        """#include <cstdio>
#include <iterator>
#include "lz4.h"
int main() {
    std::vector<char> in, out;
    for (int c; (c = getchar()) != EOF;) in.push_back(static_cast<char>(c));
    out.resize(LZ4_compressBound(static_cast<int>(in.size())));
    const int size = LZ4_compress_default(in.data(), out.data(), static_cast<int>(in.size()),
                                          static_cast<int>(out.size()));
    fwrite(out.data(), 1, size, stdout);
}
"""
    )
    program = folder / "compress"
    command = ["g++", "-std=c++17", "-fsanitize=address,undefined", "-I", str(LZ4.parent)]
    subprocess.run([*command, str(folder / "main.cpp"), "-o", str(program)], check=True)
    return program


@pytest.mark.parametrize("seed", range(40))
def test_compressor(compressor: Path, seed: int) -> None:
    """What it makes has the format's rules, and expands to what went in."""
    random = np.random.default_rng(seed)
    size = int(random.choice([0, 1, 4, 5, 12, 13, 14, 40, 300, 5000, 200_000]))
    kind = seed % 4
    if kind == 0:
        data = random.bytes(size)
    elif kind == 1:
        data = bytes(random.integers(0, 3, size, dtype=np.uint8))
    elif kind == 2:
        data = (random.bytes(int(random.integers(1, 70_000))) * 9)[:size]
    else:
        data = bytes(size)
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}
    run = subprocess.run([compressor], input=data, capture_output=True, env=environment, check=True)
    assert expand(run.stdout) == data
    if kind == 3 and size > 1000:
        assert len(run.stdout) < size / 100
