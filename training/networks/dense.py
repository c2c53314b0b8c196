"""What torchvision's DenseNets share: how their features are cut into stages."""

from __future__ import annotations

from torch import nn


def dense_stages(network: nn.Module) -> list[nn.Module]:
    """Return the stem and the four dense blocks; the last ends with the activation that DenseNet applies after it."""
    layers = dict(network.get_submodule("features").named_children())
    stem = [layers[name] for name in ("conv0", "norm0", "relu0", "pool0")]
    blocks = [nn.Sequential(layers[f"denseblock{n}"], layers[f"transition{n}"]) for n in (1, 2, 3)]
    return [nn.Sequential(*stem), *blocks, nn.Sequential(layers["denseblock4"], layers["norm5"], nn.ReLU())]
