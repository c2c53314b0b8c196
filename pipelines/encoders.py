"""``encoders`` of ``params.yaml``: frozen image encoders that a user brings, each an architecture of its name."""

import math
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipelines.code_closure import ROOT
from pipelines.file_hashes import file_hashes
from pipelines.typed_yaml import Checks

TIMM, TORCHSCRIPT, ONNX = ".safetensors", ".pt", ".onnx"  # endings of the files
SAMPLE = "oncolineage_simulated"  # how the names of the shipped sample's collections begin
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Encoder:
    """A file of weights, how images are prepared for it, and what it was trained on."""

    file: str  # .safetensors: weights of a network of timm; .pt: TorchScript; .onnx
    size: int  # side of the images that it takes, in pixels
    mean: tuple[float, float, float]  # of the channels, on pixels in 0..1
    std: tuple[float, float, float]
    interpolation: Literal["bilinear", "bicubic", "nearest"] = "bicubic"  # by which images are brought to its size
    timm: str = ""  # name of the network, for .safetensors alone
    options: dict[str, float] = field(default_factory=dict)  # of `timm.create_model`, such as init_values
    sha256: str = ""  # of the file; required where the file is a program
    pretrained_on: tuple[str, ...] = ()  # names of collections; without one the gate refuses its models
    license: str = ""

    def check(self, checks: Checks) -> None:
        """Refuse a name that is an architecture's, a form that cannot be read, and numbers out of range."""
        require, ending = checks.require, Path(self.file).suffix
        name = checks.where.rpartition(".")[2]
        plain = re.fullmatch(r"[a-z][a-z0-9_]*", name) is not None
        require(plain, "file", f"is of {name!r}; encoders are named by lowercase letters, digits and _")
        taken = (ROOT / "training" / "architectures" / f"{name}.py").exists()
        require(not taken, "file", f"is of {name!r}, which is an architecture already; choose another name")
        known = ", ".join((TIMM, TORCHSCRIPT, ONNX))
        require(ending in (TIMM, TORCHSCRIPT, ONNX), "file", f"is {self.file!r}; it must end with one of {known}")
        require((ending == TIMM) == bool(self.timm), "file", f"is {self.file!r}; {TIMM}, and no other, needs `timm`")
        require(not self.options or bool(self.timm), "options", "are of networks of timm alone")
        require(16 <= self.size <= 1024, "size", f"is {self.size}; it must be between 16 and 1024 pixels")
        require(all(map(math.isfinite, self.mean)), "mean", "has a value that is no number")
        require(all(0 < value < math.inf for value in self.std), "std", "has a value that is not above 0")
        said = "is no SHA-256 of 64 lowercase digits"
        require(not self.sha256 or _SHA256.fullmatch(self.sha256) is not None, "sha256", said)
        said = f"is {self.file!r}, which runs as a program: name its sha256, of a copy that you trust"
        require(ending == TIMM or bool(self.sha256), "file", said)

    @property
    def megabytes(self) -> float:
        """Return the size of the file; 0 where it is not there."""
        path = Path(self.file)
        return path.stat().st_size / 1e6 if path.is_file() else 0.0

    def known(self) -> dict[str, Any]:
        """Return all fields as JSON values, with the hash of the file where there is one."""
        path = Path(self.file)
        found = file_hashes(path) if path.is_file() else {}
        return {**asdict(self), "sha256": self.sha256 or next(iter(found.values()), "")}


def plain_name(collection: str) -> str:
    """Return the name of a collection without case, spaces and punctuation: C-NMC and c_nmc are one."""
    return re.sub(r"[\W_]+", "", collection.casefold())
