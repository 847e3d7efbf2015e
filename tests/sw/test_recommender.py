"""The example of a recommender."""

import json

import numpy as np
import pytest

from loopnest.examples import recommender
from loopnest.examples.ratings import Bags, draw_ratings, read_ratings


@pytest.fixture
def tastes(monkeypatch):
    """The module of the network, which is trained for a moment only."""
    pytest.importorskip("torch")
    from loopnest.examples import tastes

    monkeypatch.setattr(tastes, "EPOCHS", 1)
    monkeypatch.setattr(tastes, "HIDDEN", (64, 32))
    return tastes


def test_on_the_golden_model(tmp_path, capsys, monkeypatch, tastes):
    monkeypatch.setattr(recommender, "draw_ratings", lambda: draw_ratings(60, 80, 4_000))
    options = ["--backend", "model", "--drawn", "--ratings", "24", "--output", str(tmp_path)]
    assert recommender.main(options) == 0
    figures = json.loads((tmp_path / "recommender.json").read_text())
    assert figures["source"] == "drawn ratings" and not figures["problems"]
    assert figures["cycles"] is figures["dense_cycles"] is None
    assert figures["quality"]["model"]["rmse"] < 2
    # a tenth of the weights, and no more
    assert figures["multiplies"] < 24 * (0.11 * (64 * 64 + 64 * 32) + 32 + 10 * 32)
    where = {row["operator"]: row["where"] for row in figures["placement"]}
    assert where["embedding_bag"] == where["concat"] == where["linear"] == "chip"
    assert (tmp_path / "recommender.png").stat().st_size > 1000
    assert "RMSE" in capsys.readouterr().out


def test_training(tastes):
    """The smallest weights of the MLP are pruned, and only these; a seed gives one network."""
    ratings = draw_ratings(50, 60, 2_000)
    networks = [tastes.train(ratings, 0.8, lambda: None) for _ in range(2)]
    for network in networks:
        for layer in network.linear():
            assert abs(float((layer.weight == 0).float().mean()) - 0.8) < 0.01
        assert (network.mlp[-1].weight != 0).all()
    found = [tastes.predict(network, ratings, ratings.test) for network in networks]
    assert np.array_equal(*found)


def test_bags():
    bags = Bags.of([("a", "x"), ("b",), ("c", "x", "y")])
    assert bags.rows == 5
    ids, starts = bags.take(np.array([2, 0, 2, 1]))
    assert ids.tolist() == [3, 1, 4, 0, 1, 3, 1, 4, 2] and starts.tolist() == [0, 3, 5, 8]


def test_movielens():
    try:
        ratings = read_ratings()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert len(ratings.users.starts) == 943 + 1 and len(ratings.items.starts) == 1_682 + 1
    assert len(ratings.train) == 80_000 and len(ratings.test) == 20_000
    assert set(ratings.rating) == {1, 2, 3, 4, 5}
    # the first line of the file: film 242 by user 196
    assert ratings.rating[0] == 3 and ratings.user[0] == 195


def test_without_the_package(monkeypatch):
    monkeypatch.setattr("loopnest.examples.ratings.PACKAGE", "no_such_package")
    with pytest.raises(FileNotFoundError, match="make models"):
        read_ratings()


def test_drawn_ratings():
    ratings = draw_ratings(100, 200, 5_000)
    counts = np.sort(np.bincount(ratings.item, minlength=200))[::-1]
    assert counts[0] > 5 * counts[20] > 0
    assert set(ratings.rating) == {1, 2, 3, 4, 5}
    assert not set(ratings.train) & set(ratings.test)
