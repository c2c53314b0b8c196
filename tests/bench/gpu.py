"""What a GPU makes of training: images a second, how busy it is, trees against the processor, a network end to end."""

import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import xgboost

from pipelines.samples.images import ImageSamples
from tests.bench.measured import Record, compare
from tests.training.image_samples import labeled
from tests.training.profile_samples import labels_samples
from training.architectures import get_architecture
from training.architectures.resnet50 import GeneResNet50, ResNet50
from training.architectures.xgboost import XGBoost
from training.estimator import FitContext

ROUNDS = 3


def some_images(count: int, side: int) -> ImageSamples:
    """Return noise in three classes: what a step costs does not depend on what it sees."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return labeled(pixels, np.arange(count) % 3)


def images_a_second(train: ImageSamples, epochs: int, device: str) -> float:
    """Return training images a second of ResNet50, by the platform's loop, after its first epoch: cuDNN's search."""
    settings: dict[str, Any] = {"mode": "full", "weights": "none", "batch_size": len(train) // 2, "penalty": None}
    ends: list[float] = []
    context = FitContext(lambda step, metrics: ends.append(time.perf_counter()))
    ResNet50(**settings, epochs=epochs, patience=epochs, views=1, test_views=1, device=device).fit(train, None, context)
    return len(train) * (epochs - 1) / (ends[-1] - ends[0])


def busy_share(job: Callable[[], object]) -> float | None:
    """Return the median share of the time in which the GPU works during ``job``, None where the driver does not say."""
    shares: list[float] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            try:
                shares.append(torch.cuda.utilization() / 100)
            except Exception:  # no pynvml, or a driver that does not tell
                return

    looking = threading.Thread(target=look)
    looking.start()
    try:
        job()
    finally:
        ended.set()
        looking.join()
    return statistics.median(shares) if shares else None


def throughput(device: str, name: str, small: bool) -> list[Record]:
    side, count, epochs = (32, 8, 2) if small else (224, 512, 6)
    train = some_images(count, side)
    ours = statistics.median(images_a_second(train, epochs, device) for _ in range(1 if small else ROUNDS))
    other = images_a_second(some_images(min(count, 32), side), 2, "cpu")
    what = f"ResNet50 training at {side} px on {name}"
    records = [Record(what, ours, other, ours / other, "images/s", sides=(name, "processor"))]
    busy = busy_share(lambda: images_a_second(train, 3 * epochs, device)) if device != "cpu" else None
    if busy is None:
        print("the share of the time in which the GPU is busy: not measured", flush=True)
    else:
        sides = ("busy", "all of it")
        records.append(Record(f"{what}, the GPU's time", busy, 1.0, busy, "of the time", sides=sides))
    return records


def trees(device: str, name: str, small: bool) -> Record:
    n, features, rounds = (200, 8, 5) if small else (100_000, 500, 200)
    rows = np.random.default_rng(0).normal(size=(n, features)).astype(np.float32)

    def job(where: str) -> Callable[[], object]:
        trees, label = XGBoost(rounds=rounds, depth=6, device=where), rows[:, 0] * rows[:, 1]
        return lambda: trees._boost({}, xgboost.QuantileDMatrix(rows, label, max_bin=trees.max_bin), None, None)

    what = f"XGBoost, {rounds} rounds on {n} x {features}"
    return compare(what, job(device), job("cpu"), sides=(name, "processor"), rounds=1 if small else ROUNDS)


def tumor_types(device: str, name: str, small: bool) -> Record:
    samples = labels_samples(12 if small else 2000)
    defaults = get_architecture("resnet50", "profiles", "classification").defaults
    side, epochs = (32, 1) if small else (64, 5)

    def job(where: str) -> Callable[[], object]:
        def fit() -> object:
            network = GeneResNet50(**defaults, image_size=side, epochs=epochs, device=where)
            return network.fit(samples).predict(samples)

        return fit

    what = f"tumor types by ResNet50, {len(samples)} profiles as images of {side} px, {epochs} epochs"
    return compare(what, job(device), job("cpu"), sides=(name, "processor"), rounds=1)


def gpu(small: bool = False, device: str | None = None) -> list[Record]:
    """Train on the GPU, whose name stands in each record: nothing is measured where there is none.

    In bfloat16 and channels-last, all pixels on the device. Training images a second are those of the platform's loop,
    augmentation among them; the first epoch is not counted.
    """
    if device is None and not torch.cuda.is_available():
        print("gpu: skipped, PyTorch sees no CUDA device here; nothing was measured", flush=True)
        return []
    device = device or "cuda"
    name = "the processor" if device == "cpu" else torch.cuda.get_device_name(device)
    return [*throughput(device, name, small), trees(device, name, small), tumor_types(device, name, small)]
