"""Deep nets trained from five initialisations, on scikit-learn's handwritten digits.

    python benchmarks/training.py                     # every net, three seeds, in minutes
    python benchmarks/training.py --net relu --seeds 1

Each net is trained for a number of steps of Adam, the same from each initialisation, at the same
rate, on the same batches, from weights of N(0, 1), from torch's default, and from what
`initialize_`, `lsuv_` and `repair_` make of torch's default. Nothing is tuned to one of them. A
line gives the share of digits kept from training that the net names rightly, for each seed; chance
is 0.1.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import initfast

BATCH = 64
RATE = 3e-4
TRAINED = 0.5
"""Accuracy from which a net is said to train: chance is 0.1, a linear classifier reaches 0.95."""


class Digits(NamedTuple):
    """1797 images of 8 x 8 in ten classes, standardised: those to learn from, those to judge by."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


def digits() -> Digits:
    """The digits, in one order and cut at one place for every run."""
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    x = torch.tensor(images, dtype=torch.float32)[order].view(-1, 1, 8, 8)
    y = torch.tensor(labels, dtype=torch.int64)[order]
    x = (x - x.mean()) / x.std()
    return Digits(x[:1400], y[:1400], x[1400:], y[1400:])


# ---- the nets ----


def mlp(activation: type[nn.Module], depth: int = 50, width: int = 64) -> nn.Module:
    """Linear layers and activations alone."""
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(64, width), activation()]
    for _ in range(depth - 2):
        layers += [nn.Linear(width, width), activation()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def convnet(depth: int = 56, channels: int = 16) -> nn.Module:
    """Convolutions and ReLUs without a norm or a residual connection, and one linear layer."""
    layers: list[nn.Module] = [nn.Conv2d(1, channels, 3, padding=1), nn.ReLU()]
    layers += [nn.Conv2d(channels, channels, 3, stride=2, padding=1), nn.ReLU()]
    for _ in range(depth - 3):
        layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * channels, 10))


class Transformer(nn.Module):
    """The rows of an image are its tokens; the mean over them is classified."""

    def __init__(self, norm_first: bool, depth: int = 24, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.position = nn.Parameter(torch.zeros(8, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=norm_first
        )
        norm = nn.LayerNorm(width) if norm_first else None
        self.encoder = nn.TransformerEncoder(layer, depth, norm, enable_nested_tensor=False)
        for p in self.encoder.parameters():  # its layers are copies of one
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)  # what nn.Transformer draws
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images [N, 1, 8, 8]."""
        y: Tensor = self.head(self.encoder(self.embed(x.squeeze(1)) + self.position).mean(1))
        return y


NETS: dict[str, Callable[[], nn.Module]] = {
    "tanh MLP, 50 layers": lambda: mlp(nn.Tanh),
    "ReLU MLP, 50 layers": lambda: mlp(nn.ReLU),
    "CNN, 56 layers, no norm": convnet,
    "pre-norm transformer, 24 layers": lambda: Transformer(norm_first=True),
    "post-norm transformer, 24 layers": lambda: Transformer(norm_first=False),
}


STEPS = {"MLP": 400, "CNN": 300, "transformer": 40}
"""Of training, by a word in the net's name: more where signals fade, so that all run in minutes."""


# ---- the initialisations ----


def _standard_normal(net: nn.Module, x: Tensor, y: Tensor) -> None:
    for p in net.parameters():
        if p.dim() > 1:
            initfast.init.normal_(p)


INITIALISATIONS: dict[str, Callable[[nn.Module, Tensor, Tensor], object]] = {
    "N(0, 1)": _standard_normal,
    "torch": lambda net, x, y: None,
    "initialize_": lambda net, x, y: initfast.initialize_(net, x),
    "lsuv_": lambda net, x, y: initfast.lsuv_(net, x),
    "repair_": lambda net, x, y: initfast.repair_(net, x, loss=cross_entropy, targets=y),
}


def train(net: nn.Module, data: Digits, steps: int, rate: float = RATE) -> float:
    """Train a net on random batches; returns its accuracy, or chance where it is not finite."""
    optimizer = torch.optim.Adam(net.parameters(), rate, fused=True)
    for _ in range(steps):
        rows = torch.randint(len(data.x), (BATCH,))
        optimizer.zero_grad()
        loss = cross_entropy(net(data.x[rows]), data.y[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        right = net(data.test_x).argmax(1) == data.test_y
    return right.double().mean().item()


def accuracy(
    net: str,
    initialisation: str,
    seed: int,
    data: Digits,
    steps: int | None = None,
    rate: float = RATE,
) -> float:
    """Build, initialise and train one net; for as many steps as :data:`STEPS` says, if None."""
    if steps is None:
        steps = next(count for word, count in STEPS.items() if word in net)
    torch.manual_seed(seed)
    built = NETS[net]()
    INITIALISATIONS[initialisation](built, data.x[:BATCH], data.y[:BATCH])
    torch.manual_seed(seed)  # the same batches, whatever the initialisation drew
    return train(built, data, steps, rate)


def rows(word: str, seeds: int, steps: int | None, rate: float) -> Iterator[str]:
    """A line of a table for each net."""
    data = digits()
    yield "| net | " + " | ".join(INITIALISATIONS) + " |"
    yield "|---" * (len(INITIALISATIONS) + 1) + "|"
    for net in NETS:
        if word.lower() in net.lower():
            cells = []
            for initialisation in INITIALISATIONS:
                found = [
                    accuracy(net, initialisation, seed, data, steps, rate) for seed in range(seeds)
                ]
                text = " ".join(f"{value:.2f}" for value in found)
                cells.append(f"**{text}**" if min(found) >= TRAINED else text)
            yield f"| {net} | " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table as it comes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", default="", help="a word in the name of the nets to train")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="in place of each net's own number")
    parser.add_argument("--rate", type=float, default=RATE, help="of learning")
    arguments = parser.parse_args()
    start = time.perf_counter()
    for row in rows(arguments.net, arguments.seeds, arguments.steps, arguments.rate):
        print(row, flush=True)
    print(f"\n{torch.get_num_threads()} threads, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
