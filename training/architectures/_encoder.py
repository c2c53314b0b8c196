"""A head on a frozen encoder that ``encoders`` of ``params.yaml`` brings; the encoder's file is a part of the model."""

from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipelines.encoders import ONNX
from pipelines.errors import UserError
from pipelines.params import PARAMS_FILE, read_params
from pipelines.samples.images import ImageSamples
from training.architectures import Architecture, architecture
from training.backbone import Backbone
from training.encoder_stages import encoder_stages
from training.networks import cell_network
from training.networks.cell_network import CellNetwork

FIELDS = 7  # a side of the image, each hidden in turn, where an encoder has no maps as fine as that


def space(trial: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw the hyperparameters of a head; the encoder stays as it is."""
    return cell_network.space(trial, {**settings, "modes": ["probe", "head"]}, None)


@architecture("images", "classification", space=space)
class EncoderNetwork(CellNetwork):
    """A head on the features of an encoder: mean and spread of its maps, and its embedding or class token."""

    encoder: Mapping[str, Any]  # an entry of ``encoders``, with its name and the size of its file
    weights: str = field(default="encoder", init=False)

    fitted = (*CellNetwork.fitted, "file")

    @property
    def backbone(self) -> Backbone:  # type: ignore[override]
        """Return what is known of the encoder as of any backbone."""
        mean, std = tuple(self.encoder["mean"]), tuple(self.encoder["std"])
        return Backbone(lambda pretrained: nn.Identity(), lambda network: [], smallest=1, mean=mean, std=std)

    @classmethod
    def origin(cls, hyperparameters: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
        """Return the encoder's file, its hash and what it was trained on."""
        encoder = hyperparameters["encoder"]
        known = {key: str(encoder[key]) for key in ("file", "sha256", "license")}
        told = ", ".join(encoder["pretrained_on"])
        return {"pretrained": "true", "weights": f"encoder {encoder['name']}", "pretrained_on": told} | {
            f"encoder.{key}": value for key, value in known.items()
        }

    @classmethod
    def expected_megabytes(cls, **given: Any) -> float:
        """Return the size of the encoder's file."""
        return float(given["encoder"]["megabytes"])

    def pretraining(self) -> dict[str, Any]:
        """See `Estimator.pretraining`."""
        known = {"weights": self.encoder["file"], "encoder": self.encoder["name"], "license": self.encoder["license"]}
        return {**known, "pretrained_on": list(self.encoder["pretrained_on"]) or None}

    def _stages(self, weights: str) -> list[nn.Module]:
        if weights != "empty":  # for which `restore` has the file
            path = Path(self.encoder["file"])
            if not path.is_file():
                raise UserError(f"{path}: no such file; encoders.{self.encoder['name']}.file in params.yaml names it")
            self.file_ = np.fromfile(path, np.uint8)
        return encoder_stages(self.encoder["name"], self.encoder, self.file_.tobytes())

    @property
    def _saved(self) -> nn.Module:
        return nn.ModuleDict({"head": self.module_.head})  # the encoder's weights are those of its file

    def _frozen_identity(self) -> tuple[object, ...]:
        tensors, *others = super()._frozen_identity()
        how = [self.encoder[key] for key in ("sha256", "timm", "options", "size", "interpolation")]
        return f"{tensors} {how}", *others  # a program's outputs depend on more than its tensors

    @property
    def heatmap_method(self) -> str:
        """See `Estimator.heatmap_method`: Grad-CAM on one map of few fields named the wrong ones, see the docs."""
        with torch.no_grad():
            maps, _ = self.module_.frozen(torch.zeros(1, 3, self.size_, self.size_, device=self._device))
        return "grad_cam" if maps.shape[1] and maps.shape[2] >= FIELDS else "occlusion"

    def cost(self) -> dict[str, float]:
        """See `TransferNetwork.cost`; of a graph of ONNX only the size of its file is known."""
        cost = super().cost()
        if Path(self.encoder["file"]).suffix == ONNX:
            cost |= {"parameters": cost["parameters"] + len(self.file_) // 4}
            del cost["multiply_adds"]
        return cost

    def heatmaps(self, samples: ImageSamples) -> np.ndarray:
        """Return Grad-CAM, or by how much each field, hidden, lowers the predicted class's logit, 0..1."""
        if self.heatmap_method == "grad_cam":
            return super().heatmaps(samples)
        from captum.attr import Occlusion

        samples, size = self.seen(samples), samples.pixels.shape[1]
        side = -(-size // FIELDS)
        maps = np.zeros((len(samples), size, size), np.float32)
        predicted = self.predict(samples)
        for place, row in enumerate(samples.index):
            images = self._float(samples.pixels[row : row + 1])
            hidden = self._normalized(images.mean(dim=(2, 3), keepdim=True).expand_as(images))
            how = {"sliding_window_shapes": (3, side, side), "strides": (3, side, side), "baselines": hidden}
            with torch.inference_mode():
                found = Occlusion(self.module_).attribute(
                    self._normalized(images), target=int(predicted[place]), perturbations_per_eval=FIELDS, **how
                )
            maps[place] = found[0, 0].relu().cpu().numpy()
        return maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), 1e-12)


def brought(name: str, of: Architecture) -> Architecture | None:
    """Return the architecture of the encoder ``name`` of ``params.yaml``, None if it has no such entry."""
    params = read_params() if PARAMS_FILE.is_file() else None
    if params is None or name not in params.encoders:
        return None
    encoder, most = params.encoders[name], params.policy.gate.megabytes
    if encoder.megabytes > most:
        raise UserError(
            f"encoders.{name}: {encoder.file} has {encoder.megabytes:.0f} MB, and models of at most {most:g} MB are "
            "served, of which it is a part; raise policy.gate.megabytes in params.yaml, or bring a smaller encoder"
        )
    return replace(of, name=name, given={"encoder": {"name": name, "megabytes": encoder.megabytes, **encoder.known()}})
