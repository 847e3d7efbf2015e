"""A recommender in PyTorch: embedding bags of a user and of an item, and an MLP on both."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import prune

from .ratings import Integers, Ratings

WIDTH = 32
"""Of an embedding."""
HIDDEN = (256, 128)
BATCH = 512
EPOCHS = 5
LEARNING_RATE = 3e-3
DROPOUT = 0.3
SEED = 11


class Recommender(nn.Module):
    """The expected rating of items by users, each given as a bag of features (`Bags.take`)."""

    def __init__(self, users: int, items: int, mean: float) -> None:
        super().__init__()
        self.users = nn.EmbeddingBag(users, WIDTH, mode="sum")
        self.items = nn.EmbeddingBag(items, WIDTH, mode="sum")
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=0.1)
        layers: list[nn.Module] = []
        size = 2 * WIDTH
        for hidden in HIDDEN:
            # without a bias, what is not there stays 0
            layers += [nn.Linear(size, hidden, bias=False), nn.ReLU(), nn.Dropout(DROPOUT)]
            size = hidden
        self.mlp = nn.Sequential(*layers, nn.Linear(size, 1))
        nn.init.constant_(self.mlp[-1].bias, mean)

    def forward(self, user: Tensor, users: Tensor, item: Tensor, items: Tensor) -> Tensor:
        both = torch.cat([self.users(user, users), self.items(item, items)], dim=1)
        return self.mlp(both)[:, 0]

    def linear(self) -> list[nn.Linear]:
        """Return the layers of the MLP that are pruned: all but the last one, which is small."""
        return [layer for layer in self.mlp if isinstance(layer, nn.Linear)][:-1]


def batch_of(ratings: Ratings, which: Integers) -> tuple[Tensor, ...]:
    """Return the inputs of the network for some ratings."""
    bags = *ratings.users.take(ratings.user[which]), *ratings.items.take(ratings.item[which])
    return tuple(torch.from_numpy(array) for array in bags)


def predict(network: Recommender, ratings: Ratings, which: Integers) -> NDArray[np.float32]:
    """Return the ratings that a network expects."""
    network.eval()
    with torch.no_grad():
        return network(*batch_of(ratings, which)).numpy()


def train(ratings: Ratings, zeros: float, step: Callable[[], None]) -> Recommender:
    """Return a trained network, with this share of zeros among the weights of its MLP.

    The smallest ones are pruned, more after each of the first epochs (Zhu and Gupta, "To Prune, or
    Not to Prune", 2017). ``step`` is called after each epoch.
    """
    rng = np.random.default_rng(SEED)
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(SEED)
        mean = float(ratings.rating[ratings.train].mean())
        network = Recommender(ratings.users.rows, ratings.items.rows, mean)
        rates = torch.optim.Adam(network.parameters(), LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(rates, EPOCHS)
        pruning = (EPOCHS + 1) // 2
        for epoch in range(EPOCHS):
            network.train()
            order = rng.permutation(ratings.train)
            for start in range(0, len(order), BATCH):
                some = order[start : start + BATCH]
                found = network(*batch_of(ratings, some))
                loss = nn.functional.mse_loss(found, torch.from_numpy(ratings.rating[some]))
                rates.zero_grad()
                loss.backward()
                rates.step()
            schedule.step()
            if zeros and epoch < pruning:
                share = zeros * (1 - (1 - (epoch + 1) / pruning) ** 3)
                for layer in network.linear():
                    _prune(layer, share)
            step()
    return network.eval()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let PyTorch have one thread: the matrices are small, others would only wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _prune(layer: nn.Linear, share: float) -> None:
    """Prune a layer to this share of zeros; those that it has stay."""
    count = round(share * layer.weight.numel()) - int((layer.weight == 0).sum())
    if count > 0:
        prune.l1_unstructured(layer, "weight", amount=count)
