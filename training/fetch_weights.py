"""Fill the caches of torchvision and timm: ``python -m training.fetch_weights resnet50 xception ...``."""

import argparse

from pipelines.command import run_command
from training.architectures import get_architecture


def main() -> int:
    """Fetch the ImageNet weights of the architectures named."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("architectures", nargs="+", help="architectures of images")
    for name in arguments.parse_args().architectures:
        architecture = get_architecture(name, "images", "classification")
        backbone = getattr(architecture.estimator, "backbone", None)
        if backbone is None or architecture.given:
            print(f"{name}: there are no weights to fetch")
            continue
        backbone.build(name, "imagenet")
        print(f"{name}: {backbone.source} is in the cache")
    return 0


if __name__ == "__main__":
    run_command(main)
