"""Ratings of films: MovieLens 100k from the package recbole, or drawn ones."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .packages import find_file

PACKAGE, FOLDER, PROJECT = "recbole", "dataset_example/ml-100k", "recbole"

TEST_SHARE = 0.2
SEED = 7

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Bags:
    """What is known of users, or of items: each has a bag of features, which are rows of a table.

    Attributes
    ----------
    starts : array of int64
        Where each bag starts in ``ids``, and where the last one ends.
    ids : array of int64
    rows : int
        Of the table.
    """

    starts: Integers
    ids: Integers
    rows: int

    @classmethod
    def of(cls, features: Iterable[Sequence[object]]) -> "Bags":
        """Return the bags of these features, each known by its name, or by what it is."""
        numbers: dict[object, int] = {}
        bags = [[numbers.setdefault(f, len(numbers)) for f in bag] for bag in features]
        starts = np.cumsum([0, *map(len, bags)], dtype=np.int64)
        return cls(starts, np.array([n for bag in bags for n in bag], np.int64), len(numbers))

    def take(self, which: Integers) -> tuple[Integers, Integers]:
        """Return the features of some bags, and where each bag starts: what a bag of embeddings
        takes.
        """
        sizes = np.diff(self.starts)[which]
        starts = np.cumsum(sizes) - sizes
        within = np.arange(sizes.sum()) - np.repeat(starts, sizes)
        return self.ids[np.repeat(self.starts[which], sizes) + within], starts


@dataclass(frozen=True)
class Ratings:
    """Ratings from 1 to 5, by the numbers of users and items; ``train`` and ``test`` are numbers of
    ratings.
    """

    users: Bags
    items: Bags
    user: Integers
    item: Integers
    rating: NDArray[np.float32]
    train: Integers
    test: Integers

    @classmethod
    def split(
        cls, users: Bags, items: Bags, user: Integers, item: Integers, rating: NDArray[np.float32]
    ) -> "Ratings":
        """Return ratings of which some, drawn, are the test's."""
        order = np.random.default_rng(SEED).permutation(len(rating))
        tests = int(TEST_SHARE * len(rating))
        return cls(users, items, user, item, rating, order[tests:], order[:tests])


def read_ratings() -> Ratings:
    """Return the ratings of MovieLens 100k: users with their age, gender and occupation, films with
    their year and genres.

    Raises
    ------
    FileNotFoundError
        If the package is not installed.
    """
    files = [
        find_file(PACKAGE, f"{FOLDER}/ml-100k.{kind}", PROJECT)
        for kind in ("user", "item", "inter")
    ]
    users: dict[str, tuple[object, ...]] = {}
    for number, age, gender, occupation, _ in _rows(files[0]):
        users[number] = number, ("age", int(age) // 10), gender, occupation
    items: dict[str, tuple[object, ...]] = {}
    for number, _, year, genres in _rows(files[1]):
        items[number] = number, ("year", year[:3]), *(("genre", g) for g in genres.split())
    user_number = {name: n for n, name in enumerate(users)}
    item_number = {name: n for n, name in enumerate(items)}
    given = [(user_number[u], item_number[i], float(r)) for u, i, r, _ in _rows(files[2])]
    user, item, rating = (np.array(column) for column in zip(*given, strict=True))
    bags = Bags.of(users.values()), Bags.of(items.values())
    return Ratings.split(*bags, user, item, rating.astype(np.float32))


def _rows(path: Path) -> Iterator[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        next(rows)  # the names of the columns
        yield from rows


def draw_ratings(users: int = 900, items: int = 1_600, count: int = 100_000) -> Ratings:
    """Return drawn ratings: tastes of rank 4 plus noise, items of 18 genres by the frequencies of
    Zipf.
    """
    rng = np.random.default_rng(SEED)
    rank, genres = 4, 18
    of_genre = rng.normal(size=(genres, rank))
    genre = rng.integers(genres, size=(items, 2))
    item_tastes = of_genre[genre].mean(axis=1) + 0.3 * rng.normal(size=(items, rank))
    user_tastes = rng.normal(size=(users, rank))
    popular = 1 / np.arange(1, items + 1)
    item = rng.choice(items, size=count, p=popular / popular.sum())
    user = rng.integers(users, size=count)
    liked = (user_tastes[user] * item_tastes[item]).sum(axis=1) / np.sqrt(rank)
    rating = np.clip(np.rint(3.5 + liked + 0.5 * rng.normal(size=count)), 1, 5)
    bags = (
        Bags.of([(n,) for n in range(users)]),
        Bags.of([(n, *(("genre", int(g)) for g in set(own))) for n, own in enumerate(genre)]),
    )
    return Ratings.split(*bags, user, item, rating.astype(np.float32))
