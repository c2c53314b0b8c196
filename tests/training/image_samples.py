"""What the tests on images share: cells that a network tells apart in a few steps, in memory and as files."""

import base64
import functools
import io
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from pipelines.modalities.images import ImagesTask
from pipelines.params import read_params, task_text
from pipelines.samples.images import IMAGES_FOLDER, ImageSamples, decoding, read_images
from tests.training.tiny import ROOT
from training.architectures import get_architecture, names
from training.backbone import Backbone
from training.contract import contract_class
from training.networks.cell_network import CellNetwork
from training.trees.images import ImageTrees

CLASSES = ("blue", "green", "red")
TASK = "blood_cell"
_OF = {name: get_architecture(name, "images", "classification").estimator for name in names("images", "classification")}
TREES = [name for name, of in _OF.items() if issubclass(of, ImageTrees)]
NETWORKS = [name for name, of in _OF.items() if issubclass(of, CellNetwork)]


def image_task(size: int = 64, crop: float = 1.0) -> ImagesTask:
    """Return the repository's task of blood cells with other classes and a smaller size."""
    task = _task()
    return replace(task, data=replace(task.data, classes=CLASSES, size=size, crop=crop))


@functools.cache
def _task() -> ImagesTask:
    task = read_params(ROOT / "params.yaml").task(TASK)
    assert isinstance(task, ImagesTask)
    return task


def image_contract(task: ImagesTask) -> Any:
    """Return a contract as the fit stage writes it."""
    own: dict[str, Any] = {"task": TASK, "architecture": "efficientnet_lite0", "baseline": task.evaluate.baseline}
    own |= {"task_text": task_text(task), "coverage": task.evaluate.interval_coverage}
    return contract_class("images", "classification")(**own, classes=list(CLASSES), temperature=1.0, threshold=0.2)


def draw(code: int, number: int, side: int) -> np.ndarray:
    """Return an image of the class ``code``: a colored blob somewhere on a noisy gray field, never the same twice."""
    rng = np.random.default_rng([code, number, side])
    y, x = np.mgrid[:side, :side] / side
    center = rng.uniform(0.35, 0.65, 2)
    picture = rng.normal(190, 12, (side, side, 3))
    color = np.full(3, 60.0)
    color[2 - code] = 170
    picture[np.hypot(y - center[0], x - center[1]) < rng.uniform(0.2, 0.3)] = color
    return (picture + rng.normal(0, 8, picture.shape)).clip(0, 255).astype(np.uint8)


def labeled(pixels: np.ndarray, codes: np.ndarray) -> ImageSamples:
    """Return samples in memory, as a request's are."""
    table = pd.DataFrame(
        {
            "sample_id": [f"row:{row}" for row in range(len(codes))],
            "label": [CLASSES[code] for code in codes],
            "subject_id": pd.Series([None] * len(codes), dtype=object),
            "digest": [f"{row:064x}" for row in range(len(codes))],
            "target": np.asarray(codes, dtype=np.int64),
        }
    )
    return ImageSamples(table, pixels, np.arange(len(codes)), CLASSES, decoding(image_task(pixels.shape[1]).data))


def in_memory(count: int, side: int = 64, *, first: int = 0) -> ImageSamples:
    """Return ``count`` images of all classes in turn; ``first`` numbers them, so that others are others."""
    codes = np.arange(count) % len(CLASSES)
    return labeled(np.stack([draw(code, first + row, side) for row, code in enumerate(codes.tolist())]), codes)


def write_folder(folder: Path, per_class: int, side: int = 64, *, first: int = 0) -> None:
    """Write a raw folder of kind ``images``."""
    for code, label in enumerate(CLASSES):
        (folder / IMAGES_FOLDER / label).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + per_class):
            Image.fromarray(draw(code, number, side)).save(folder / IMAGES_FOLDER / label / f"{number:03d}.png")


def from_files(folder: Path, size: int = 64, crop: float = 1.0) -> ImageSamples:
    """Return the images of a raw folder, mapped from the cache below the working directory."""
    samples = read_images(folder, image_task(size, crop), cache=Path("cache")).samples
    assert isinstance(samples, ImageSamples)
    return samples


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> str:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return base64.b64encode(file.getvalue()).decode("ascii")


def settled_weights(backbone: Backbone, path: Path, side: int) -> Path:
    """Write weights that stand in for trained ones: random, with batch normalization that knows its inputs.

    Straight from scratch, what comes out of fifty frozen layers is too close to zero for any head to learn from.
    """
    torch.manual_seed(5)
    network = backbone.create(False)
    stages = nn.Sequential(*backbone.stages(network)).eval()
    for module in stages.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train().momentum = None  # the mean over all batches
    # Larger than they will be: over maps of one pixel there is no spread to speak of.
    images = torch.from_numpy(in_memory(12, side + 64).pixels).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std))
    with torch.no_grad():
        stages((images - mean) / std)
    return write_stages(network, stages, path)


def write_stages(network: nn.Module, stages: nn.Module, path: Path) -> Path:
    """Write the weights of a network's stages alone: a classifier, which is not loaded, can be most of a file."""
    held = {id(tensor) for tensor in stages.state_dict(keep_vars=True).values()}
    kept = {key: tensor for key, tensor in network.state_dict(keep_vars=True).items() if id(tensor) in held}
    save_file({key: tensor.detach().contiguous() for key, tensor in kept.items()}, path)
    return path


def _small_network(pretrained: bool) -> nn.Module:
    """Return four stages with the kinds of layers that backbones have, and few weights."""
    stages = [
        nn.Sequential(nn.Conv2d(taken, made, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(made), nn.ReLU())
        for taken, made in pairwise((3, 8, 16, 16, 32))
    ]
    return nn.Sequential(*stages)


SMALL = Backbone(_small_network, lambda network: list(network.children()), smallest=32)
