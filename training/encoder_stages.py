"""A frozen encoder from the bytes of its file: weights of a network of timm, a TorchScript archive, or ONNX."""

import contextlib
import difflib
import hashlib
import importlib
import io
import math
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from pipelines.encoders import ONNX, TIMM
from pipelines.errors import UserError

Features = tuple[Tensor, Tensor]  # maps (n, channels, h, w), of no channel where there are none, and numbers (n, k)


def encoder_stages(name: str, encoder: Mapping[str, Any], content: bytes) -> list[nn.Module]:
    """Return the resizing to the encoder's size and the encoder, from an entry of ``encoders`` and its file.

    UserError if the bytes have another hash, are no such encoder, or it does not take images of the size.
    """
    if (found := hashlib.sha256(content).hexdigest()) != encoder["sha256"]:
        raise UserError(
            f"encoders.{name}: {encoder['file']} has the SHA-256 {found}, and {encoder['sha256']} is expected; name it "
            "in params.yaml if you trust that copy"
        )
    size, resize = encoder["size"], Resize(encoder["size"], encoder["interpolation"])
    forms = {TIMM: _of_timm, ONNX: OnnxNetwork}
    try:
        form = forms.get(Path(encoder["file"]).suffix, _of_torchscript)
        network = FrozenEncoder(form(encoder, content)).eval().requires_grad_(False)
        with torch.no_grad():
            network(torch.zeros(2, 3, size, size))  # two: a graph may have been written for batches of one
    except UserError as error:
        raise UserError(f"encoders.{name}: {error}") from error
    except Exception as error:  # each library has its own types
        said = (str(error).strip() or type(error).__name__).splitlines()[-1][:300]
        file = encoder["file"]
        raise UserError(
            f"encoders.{name}: {file} cannot be read, or takes no images of {size} pixels: {said}"
        ) from error
    return [resize, network]


class Resize(nn.Module):
    """Brings images to the size that an encoder takes."""

    def __init__(self, size: int, interpolation: str) -> None:
        super().__init__()
        self.size = size
        self.how: dict[str, Any] = {"mode": interpolation}
        if interpolation != "nearest":
            self.how |= {"align_corners": False, "antialias": True}

    def forward(self, images: Tensor) -> Tensor:
        """Return images of `size`."""
        if images.shape[2] == self.size:
            return images
        return nn.functional.interpolate(images, (self.size, self.size), **self.how)


class FrozenEncoder(nn.Module):
    """A network that is never trained, as a stage of `training.networks.transfer.TransferModule`.

    Its output is maps ``(n, channels, h, w)``, an embedding ``(n, k)``, or both.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.maps = nn.Identity()  # what Grad-CAM looks at

    def forward(self, images: Tensor) -> Features:
        """Return maps and numbers of normalized images."""
        with torch.no_grad():
            found = self.network(images)
        found = found if isinstance(found, tuple) else (found,)
        kinds = sorted(getattr(each, "ndim", 0) for each in found)
        if kinds not in ([2], [4], [2, 4]) or any(len(each) != len(images) or not each.shape[1] for each in found):
            said = ", ".join(str(tuple(e.shape)) if isinstance(e, Tensor) else type(e).__name__ for e in found)
            needed = "maps (n, channels, h, w), an embedding (n, k), or one of each are needed"
            raise UserError(f"its output for {len(images)} images is {said}; {needed}")
        maps = next((each for each in found if each.ndim == 4), images.new_zeros(len(images), 0, 1, 1))
        numbers = next((each for each in found if each.ndim == 2), images.new_zeros(len(images), 0))
        return self.maps(maps.detach().requires_grad_(torch.is_grad_enabled())), numbers.detach()


class TimmFeatures(nn.Module):
    """The last maps of a network of timm; of a transformer the patch tokens as maps, and the class token."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor | Features:
        """Return maps, and the class token if there is one."""
        found: Tensor = self.network.forward_features(images)  # type: ignore[operator]
        if found.ndim == 4:
            return found.permute(0, 3, 1, 2) if getattr(self.network, "output_fmt", "NCHW") == "NHWC" else found
        first = int(getattr(self.network, "num_prefix_tokens", 0))
        side = math.isqrt(found.shape[1] - first)
        maps = found[:, first:].transpose(1, 2).unflatten(2, (side, side))
        return (maps, found[:, 0]) if getattr(self.network, "cls_token", None) is not None else maps


def _of_timm(encoder: Mapping[str, Any], content: bytes) -> nn.Module:
    """Build a network of timm without its classifier; timm's own function reads other layouts of its weights."""
    import timm
    from safetensors.torch import load

    name = encoder["timm"]
    if not timm.is_model(name):  # a name of a hub, such as hf-hub:..., would be downloaded
        near = ", ".join(difflib.get_close_matches(name, timm.list_models(), 3))
        raise UserError(f"timm {timm.__version__} has no network {name!r}" + (f"; it has {near}" if near else ""))
    about = timm.get_pretrained_cfg(name)
    fixed = {"img_size": encoder["size"]} if about.fixed_input_size else {}
    network = timm.create_model(name, num_classes=0, **fixed, **encoder["options"])
    tensors = load(content)
    if (layouts := getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)) is not None:
        with contextlib.suppress(KeyError):  # of a network of another kind, which is said below
            tensors = layouts(tensors, network)
    # By hand: where a classifier is left out, timm itself would leave whatever is lacking at random.
    found = network.load_state_dict(tensors, strict=False)
    lacking = [key for key in found.missing_keys if not key.endswith("num_batches_tracked")]
    classifiers = (about.classifier,) if isinstance(about.classifier, str) else tuple(about.classifier or ())
    beyond = [key for key in found.unexpected_keys if key.rpartition(".")[0] not in classifiers]
    if lacking or beyond:
        what = f"lacks {len(lacking)} tensors of it, {lacking[0]} first" if lacking else f"has {beyond[0]} beside it"
        raise UserError(f"{encoder['file']} holds no weights of {name}: it {what}; see timm and options")
    return TimmFeatures(network)


def _of_torchscript(encoder: Mapping[str, Any], content: bytes) -> nn.Module:
    """Load an archive: it is a program, and its hash is all that says whose; see `pipelines.encoders`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the format, which what is published still has
        loaded: nn.Module = torch.jit.load(io.BytesIO(content), map_location="cpu")
    return loaded


class OnnxNetwork(nn.Module):
    """A graph that ONNX Runtime runs, on the CPU."""

    def __init__(self, encoder: Mapping[str, Any], content: bytes) -> None:
        super().__init__()
        try:
            runtime = importlib.import_module("onnxruntime")  # no package of the platform's images
        except ModuleNotFoundError as error:
            raise UserError(f"{encoder['file']} needs the package onnxruntime: pip install onnxruntime") from error
        self.session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the graph's outputs."""
        given = {self.session.get_inputs()[0].name: images.float().cpu().numpy()}
        found = tuple(torch.from_numpy(each).to(images.device) for each in self.session.run(None, given))
        return found if len(found) > 1 else found[0]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # a session cannot be copied, and nothing in it changes
