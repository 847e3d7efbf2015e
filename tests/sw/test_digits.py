"""`make sim` on the golden model."""

import json

from loopnest.examples import digits


def test_the_pruned_network_is_right(tmp_path, capsys):
    assert digits.main(["--backend", "model", "--output", str(tmp_path)]) == 0
    assert "pruned, golden model" in capsys.readouterr().out
    report = json.loads((tmp_path / "digits.json").read_text())
    assert report["problems"] == [] and (tmp_path / "digits.png").stat().st_size
    work = [(layer["multiplies"], layer["dense_multiplies"]) for layer in report["sparse"]]
    assert all(0 < done < 0.3 * possible for done, possible in work)
