"""A real study: a small network learns handwritten digits, one experiment diverges, and one process is killed.

Usage: python examples/digits_study.py FOLDER

The records go to FOLDER/study, and the number of those that the killed process knew to be stored to
FOLDER/acknowledged.json, where report.py finds it.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, product
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from rigorous_recorder import Experiment, ExperimentCollection

LEARNING_RATES = (0.05, 0.5, 5.0)
SEEDS = (0, 1)
EPOCHS = 5
BATCH_SIZE = 32
HIGHEST_LOSS = 3 * np.log(10)  # thrice that of a guess: the training has diverged
KILLED = (1, 0.05)  # the seed and the learning rate whose first process is killed
KILL_AFTER = 1_000  # records

Array = np.ndarray


@dataclass(frozen=True)
class Digits:
    """Images of 8 x 8 pixels, flattened and scaled to 0..1, with the digits that they show; a fifth is for testing."""

    train_images: Array
    test_images: Array
    train_labels: Array
    test_labels: Array

    @classmethod
    def load(cls) -> "Digits":
        """Read the 1,797 images that come with scikit-learn."""
        images, labels = load_digits(return_X_y=True)
        return cls(*train_test_split(images / 16.0, labels, test_size=0.2, random_state=0, stratify=labels))

    def batches(self, random: np.random.Generator) -> Iterator[tuple[Array, Array]]:
        """Yield all training images once, shuffled."""
        order = random.permutation(len(self.train_labels))
        for start in range(0, len(order), BATCH_SIZE):
            chosen = order[start : start + BATCH_SIZE]
            yield self.train_images[chosen], self.train_labels[chosen]


@dataclass
class Network:
    """One hidden layer of 32 ReLU units and a softmax, trained by gradient descent."""

    seed: int
    lr: float
    clip: float | None = None  # the longest step that a gradient may ask for
    weights: list[Array] = field(init=False)

    def __post_init__(self) -> None:
        """Draw the first weights."""
        random = np.random.default_rng(self.seed)
        hidden = random.normal(0, np.sqrt(2 / 64), (64, 32))
        output = random.normal(0, np.sqrt(2 / 32), (32, 10))
        self.weights = [hidden, np.zeros(32), output, np.zeros(10)]

    def forward(self, images: Array) -> tuple[Array, Array]:
        """Return the hidden activations and the probabilities of the ten digits."""
        hidden = np.maximum(images @ self.weights[0] + self.weights[1], 0)
        scores = hidden @ self.weights[2] + self.weights[3]
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return hidden, powers / powers.sum(axis=1, keepdims=True)

    def score(self, images: Array, labels: Array) -> tuple[float, float]:
        """Return the mean cross-entropy (in nats) and the share of right answers."""
        return judge(self.forward(images)[1], labels)

    def learn(self, images: Array, labels: Array) -> tuple[float, float]:
        """Make one step; returns the loss and the accuracy before it."""
        hidden, probabilities = self.forward(images)
        output_error = (probabilities - np.eye(10)[labels]) / len(labels)
        hidden_error = (output_error @ self.weights[2].T) * (hidden > 0)
        gradients = [images.T @ hidden_error, hidden_error.sum(0), hidden.T @ output_error, output_error.sum(0)]
        length = float(np.sqrt(sum((each**2).sum() for each in gradients)))
        step = self.lr if self.clip is None else min(self.lr, self.clip / max(length, 1e-12))
        self.weights = [weight - step * gradient for weight, gradient in zip(self.weights, gradients, strict=True)]
        return judge(probabilities, labels)


def judge(probabilities: Array, labels: Array) -> tuple[float, float]:
    """Return the mean cross-entropy (in nats) and the share of right answers."""
    of_the_truth = probabilities[np.arange(len(labels)), labels]
    loss = -np.log(np.maximum(of_the_truth, 1e-12)).mean()
    return float(loss), float((probabilities.argmax(axis=1) == labels).mean())


def train(experiment: Experiment, digits: Digits, *, epochs: int) -> Iterator[int]:
    """Train one network and record every batch.

    Args:
        experiment: its data hold `lr`, `seed` and perhaps `clip`.
        digits: the images.
        epochs: how often all images are shown.

    Yields:
        The number of records so far, after each one that was added.

    Raises:
        FloatingPointError: the loss is above HIGHEST_LOSS.
    """
    network = Network(seed=experiment["seed"], lr=experiment["lr"], clip=experiment.get("clip"))
    random = np.random.default_rng(network.seed)
    training = experiment.sub_record_keeper(phase="training")
    testing = experiment.sub_record_keeper(phase="testing")
    added = count(1)
    for epoch in range(epochs):
        for batch, (images, labels) in enumerate(digits.batches(random)):
            loss, accuracy = network.learn(images, labels)
            training.add_record(epoch=epoch, batch=batch, loss=loss, accuracy=accuracy)
            yield next(added)
            if loss > HIGHEST_LOSS:
                raise FloatingPointError(f"diverged: the loss is {loss:.1f} in batch {batch} of epoch {epoch}")
        loss, accuracy = network.score(digits.test_images, digits.test_labels)
        testing.add_record({"epoch": epoch, "loss": loss, "accuracy": accuracy})
        yield next(added)


def train_endlessly(study_folder: str, lr: float, seed: int) -> None:
    """Train until killed; prints the number of records after each one that was added."""
    with ExperimentCollection(study_folder).new_experiment(lr=lr, seed=seed) as experiment:
        for added in train(experiment, Digits.load(), epochs=sys.maxsize):
            print(added, flush=True)


def train_and_kill(study_folder: Path, *, lr: float, seed: int) -> int:
    """Train in a process of its own and kill it by SIGKILL; returns the number of records that it knew to be stored."""
    command = [sys.executable, __file__, "--endless", str(study_folder), str(lr), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        acknowledged = 0
        for line in child.stdout or ():
            if line.endswith("\n"):  # else the kill cut it
                acknowledged = int(line)
            if acknowledged == KILL_AFTER:
                child.kill()
    if child.returncode != -signal.SIGKILL:
        raise RuntimeError(f"the process should have been killed, but ended with code {child.returncode}")
    return acknowledged


def run_experiment(collection: ExperimentCollection, digits: Digits, **info: float) -> bool:
    """Run one experiment; a divergence is printed, not raised. Returns whether it finished."""
    described = " ".join(f"{key}={value}" for key, value in info.items())
    try:
        with collection.new_experiment(info) as experiment:
            for _ in train(experiment, digits, epochs=EPOCHS):
                continue
    except FloatingPointError as error:
        print(f"experiment {experiment.number}, {described}: {error}")
        return False
    print(f"experiment {experiment.number}, {described}: finished")
    return True


def run_study(folder: Path) -> None:
    """Run every learning rate with every seed, whatever happens to single experiments."""
    study_folder = folder / "study"
    collection = ExperimentCollection(study_folder)
    digits = Digits.load()
    needs_clipping: set[float] = set()
    for seed, lr in product(SEEDS, LEARNING_RATES):
        if (seed, lr) == KILLED:
            acknowledged = train_and_kill(study_folder, lr=lr, seed=seed)
            (folder / "acknowledged.json").write_text(json.dumps(acknowledged))
            print(f"a process with lr={lr} seed={seed}: killed, when it knew {acknowledged} records to be stored")
        # A number is taken again until an attempt finishes, so what follows a failure has the same number.
        if lr not in needs_clipping and not run_experiment(collection, digits, lr=lr, seed=seed):
            needs_clipping.add(lr)
        if lr in needs_clipping:
            run_experiment(collection, digits, lr=lr, seed=seed, clip=1.0)


def main(arguments: list[str]) -> None:
    """Run the study, or, for its own child, one training that does not end."""
    match arguments:
        case ["--endless", study_folder, lr, seed]:
            train_endlessly(study_folder, float(lr), int(seed))
        case [folder]:
            Path(folder).mkdir(parents=True, exist_ok=True)
            run_study(Path(folder))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
