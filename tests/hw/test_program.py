"""How programs end where their user, or the program behind their pipe, ends them."""

import importlib
import io
import os
import signal
from collections.abc import Sequence

import pytest

from loopnest_hw.program import program

PROGRAMS = (
    *("loopnest.commands.cli", "loopnest.benchmarks.__main__", "loopnest.examples.digits"),
    *("loopnest_hw.export", "loopnest_hw.timing", "loopnest_hw.fpga"),
    *("tests.fuzz.__main__", "tb.coverage.__main__", "tb.mutation.__main__"),
)


def test_the_end_of_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    @program
    def main(arguments: Sequence[str] | None = None) -> int:
        return len(arguments or ())

    assert main() == 0 and main(["a", "b"]) == 2
    assert capsys.readouterr() == ("", "")


def test_an_interrupt(capsys: pytest.CaptureFixture[str]) -> None:
    @program
    def main(arguments: Sequence[str] | None = None) -> int:
        print("so far")
        os.kill(os.getpid(), signal.SIGINT)
        return 0

    assert main() == 130
    assert capsys.readouterr() == ("so far\n", "interrupted\n")


@pytest.mark.parametrize("printed", ["", "x", "x" * 100_000])
def test_a_closed_pipe(printed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is noticed when something is printed, or when what is buffered is written."""

    @program
    def main(arguments: Sequence[str] | None = None) -> int:
        print(printed, end="")
        return 0

    reader, writer = os.pipe()
    os.close(reader)
    with monkeypatch.context() as patch, open(writer, "w") as stream:
        patch.setattr("sys.stdout", stream)
        patch.setattr("sys.stderr", io.StringIO())
        assert main() == (141 if printed else 0)


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name: str) -> None:
    """Each of the project's ends so."""
    main = importlib.import_module(name).main
    assert main.__wrapped__.__module__ == name and main.__code__ is program(main).__code__
