"""A recommender: embedding bags of users and films, and a pruned MLP that rates how they go
together, on MovieLens 100k.

A bag has the user's number, age, gender and occupation, or the film's number, year and genres. The
network is trained and pruned here, in PyTorch (`tastes`), and compiled as a module: bags are
products with a sparse matrix, activations after a ReLU are stored without their zeros, since the
hidden layers have no bias. The golden model has to agree bit for bit.

The ratings are those of the package recbole; without it, they are drawn.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from sklearn.metrics import roc_auc_score

from loopnest.progress import task
from loopnest_hw.program import program as command

from ..frontends.extras import require
from ..graph.model import Model
from .checked import run_checked
from .figures import finish, plot_layers, program_figures
from .linear import compare_dense
from .options import check_options, parser_of
from .ratings import Ratings, draw_ratings, read_ratings

LIKED = 4
"""Ratings from here on count as liked, for the area under the ROC curve."""

Array = NDArray[np.float32]


def quality(found: Array, wanted: Array) -> dict[str, float]:
    """Return the root of the mean square error of ratings, and the area under the ROC curve of
    what is liked.
    """
    return {
        "rmse": float(np.sqrt(np.mean((found - wanted) ** 2))),
        "auc": float(roc_auc_score(wanted >= LIKED, found)),
    }


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; return 0 if every figure is as it has to be."""
    options = _parse(arguments)
    from ..frontends.torch import from_torch
    from .tastes import EPOCHS, batch_of, predict, train

    console = Console()
    ratings, source = _ratings(options, console)
    with task("training and pruning", EPOCHS, keep=True) as shown:
        network = train(ratings, options.zeros, shown.advance)
    some = ratings.test[: options.ratings]
    batch = batch_of(ratings, some)
    graph = from_torch(network, batch)
    run = run_checked(options, lambda chip: Model(chip.device, graph))
    model = run.program
    expected = predict(network, ratings, some)
    wanted = ratings.rating[some]
    shares = {
        "float": quality(expected, wanted),
        options.backend: quality(run.result, wanted),
        "float, all of the test set": quality(
            predict(network, ratings, ratings.test), ratings.rating[ratings.test]
        ),
    }
    error = run.error(dict.fromkeys(run.results, expected))
    for name, own in shares.items():
        console.print(f"{name}: RMSE {own['rmse']:.4f}, AUC {own['auc']:.4f}")
    dense, compared = compare_dense(options, console, model)
    figures = {
        "source": source,
        "ratings": len(some),
        "zeros": options.zeros,
        **program_figures(options, run.report),
        **compared,
        "quality": shares,
        "error": error,
        "placement": list(model.placement.rows()),
    }
    title = f"Recommender on {source}: {options.zeros:.0%} of the MLP pruned, {len(some)} ratings"
    parts = _parts(model)
    plot_layers(options, title, model, run.report, dense, parts=parts, measured=options.dense)
    return finish(options, console, figures, run.problems)


def _parts(model: Model) -> dict[str, str]:
    """Return what each layer is in the module."""
    origins: dict[str, str] = {}
    for placed in model.placement:
        origins.setdefault(placed.layer, str(placed.node).split()[0].removeprefix("aten."))
    return {layer: origins[layer] for layer in model.layers}


def _ratings(options: argparse.Namespace, console: Console) -> tuple[Ratings, str]:
    if not options.drawn:
        try:
            return read_ratings(), "MovieLens 100k"
        except FileNotFoundError as error:
            console.print(f"{error}; the ratings are drawn")
    return draw_ratings(), "drawn ratings"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = parser_of("recommender", __doc__)
    parser.add_argument("--ratings", type=int, default=128, help="of the test set, on the chip")
    parser.add_argument("--zeros", type=float, default=0.9, help="share of the MLP's weights")
    parser.add_argument("--drawn", action="store_true", help="draw the ratings in any case")
    options = parser.parse_args(arguments)
    try:
        check_options(options, "bf16", ["ratings"], ["zeros"])
        require("torch", "torch")
    except (ValueError, OSError, ModuleNotFoundError) as error:
        parser.error(str(error))
    return options


if __name__ == "__main__":
    raise SystemExit(main())
