"""`make sim` on the golden model."""

import json

from loopnest.examples import digits


def test_the_pruned_network_is_right(tmp_path, capsys):
    assert digits.main(["--backend", "model", "--output", str(tmp_path)]) == 0
    assert "kept" in capsys.readouterr().out
    report = json.loads((tmp_path / "digits.json").read_text())
    assert report["problems"] == [] and (tmp_path / "digits.png").stat().st_size
    assert report["multiplies"] == sum(report["layer_multiplies"]) and report["skipped"] > 0.9
    names = ("cycles", "roof_share", "pe_roof_share", "dense_cycles")
    assert [report[name] for name in names] == [None] * 4 and report["dense_measured"] is False
