"""`make waves`, on a chip that writes a file and computes nothing; and what cannot have waves."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from loopnest import Chip
from loopnest.examples import waves
from loopnest_sim.waves import make_waves


class Recorder:
    """Writes so many bytes when it is closed, where a chip's waves are complete."""

    report = SimpleNamespace(cycles=1234)

    def __init__(self, preset: str, *, dtype: str, waves: Any) -> None:
        self.waves = make_waves(waves)
        assert (preset, dtype, self.waves.first, self.waves.last) == ("tiny", "int8", 5, 70)

    def compute(self, statement: str, **_: Any) -> None:
        assert statement == "C[i,j] = A[i,k] * B[k,j]"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.waves.path.write_bytes(bytes(2_600_000))


def test_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names what it computes, the cycles and the file with its size, and writes nothing else."""
    monkeypatch.setattr(waves, "Chip", Recorder)
    words = ["--preset", "tiny", "--dtype", "int8", "--waves", str(tmp_path / "small")]
    assert waves.main([*words, "--first", "5", "--last", "70"]) == 0
    (file,) = tmp_path.iterdir()
    assert file.stem == "small" and file.suffix in (".fst", ".vcd")
    out = capsys.readouterr().out
    assert "C[i,j] = A[i,k] * B[k,j], 64 x 64 with 10% nonzeros, preset tiny, int8" in out
    assert f"records cycles 5 to 70 into {file}" in out
    assert f"ran 1,234 cycles; {file} has 2.6 MB" in out


def test_make_waves_and_make_sim_write_different_files() -> None:
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    _, recipe = makefile.split("\nwaves:")
    recipe = recipe.split("\n\n")[0]
    assert "loopnest.examples.waves" in recipe and "digits" not in recipe


def test_the_model_has_no_waves() -> None:
    with pytest.raises(ValueError, match="waves='file': the golden model has no signals"):
        Chip(backend="model", waves="file")


@pytest.mark.parametrize("wrong", [("file", 5, 4), ("file", -1, 4)])
def test_waves_are_checked_before_anything_is_built(
    wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loopnest.kernel.backends.RtlBackend", None)
    with pytest.raises(ValueError, match="expected 0 <= first cycle <= last cycle"):
        Chip(waves=wrong)
