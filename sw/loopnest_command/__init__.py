"""The program ``loopnest``. It is a package of its own, since importing `loopnest` takes a second:
an interrupt in that time also ends the program in a line.
"""

from collections.abc import Sequence

from loopnest_hw.program import program


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    from loopnest.commands.cli import main as run

    return run(arguments)
