"""Points are found and named alike in all configurations; waivers must match the results."""

from pathlib import Path

import pytest
from amaranth.back import verilog

from loopnest_hw.config import make_config
from loopnest_hw.leaf.scatter import Scatter
from tb.coverage.points import Line, Point, lines_of, read_points
from tb.coverage.report import Waiver, summarize


def exported(operands: int = 3) -> str:
    config = make_config("tiny", operands=operands)
    return verilog.convert(Scatter(config), name="scatter", emit_src=True)


def test_places_do_not_depend_on_the_configuration() -> None:
    few, many = (lines_of(exported(operands=n)) for n in (2, 3))
    assert {line.place for line in few.values()} == {line.place for line in many.values()}
    text = exported().split("\n")
    assert all(text[line.number - 1].strip() == line.text for line in many.values())


def test_lines_have_their_signal_and_source() -> None:
    lines = lines_of(exported()).values()
    assert {line.place.unit for line in lines} == {"leaf/scatter"}
    assert all(line.source.startswith("leaf/scatter.py:") for line in lines if line.place.path)
    assert "rest: end else if (sent) begin" in {line.label for line in lines}


def record(line: Line, kind: str, count: int) -> str:
    return f"C '\x01f\x02scatter.v\x01l\x02{line.number}\x01n\x025\x01o\x02{kind}\x01' {count}\n"


@pytest.fixture
def points(tmp_path: Path) -> dict[Point, tuple[int, Line]]:
    """Coverage of two designs: a point that either has executed counts."""
    for operands in (2, 3):
        folder = tmp_path / str(operands)
        folder.mkdir()
        (folder / "scatter.v").write_text(exported(operands=operands))
        rest = [
            line
            for line in lines_of(exported(operands=operands)).values()
            if line.label in ("rest: if (i__ready) begin", "rest: end else if (sent) begin")
        ]
        assert len(rest) == 2
        records = [record(rest[0], "elsif", int(operands == 2)), record(rest[1], "else", 0)]
        (folder / "run.dat").write_text("# SystemC::Coverage-3\n" + "".join(records))
    return read_points(tmp_path)


def test_union_of_designs(points: dict[Point, tuple[int, Line]]) -> None:
    assert sorted(count for count, _ in points.values()) == [0, 1]
    (unit,), stale = summarize(points, [])
    assert (unit.name, unit.lines, unit.covered, unit.share, stale) == (
        "leaf/scatter",
        2,
        1,
        0.5,
        [],
    )
    assert [(kind, line.label) for kind, line in unit.missed] == [
        ("else", "rest: end else if (sent) begin")
    ]


def test_waivers(points: dict[Point, tuple[int, Line]]) -> None:
    good = Waiver("leaf/scatter", "rest: end else if (sent) begin", "a test", kind="else")
    (unit,), stale = summarize(points, [good])
    assert (unit.waived, unit.share, unit.missed, stale) == (1, 1.0, [], [])
    run = Waiver("leaf/scatter", "rest: if (i__ready) begin", "it is run")
    gone = Waiver("leaf/scatter", "nothing: else", "no such line")
    (unit,), stale = summarize(points, [run, gone])
    assert unit.waived == 0 and len(stale) == 2
    assert all("0 lines are not run, not 1" in message for message in stale)
