"""Convolutions that take in the batch normalization after them: a forward pass on a CPU without it is much faster."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

_TOLERANCE = 1e-3  # of the largest output; rounding leaves a hundredth of it


def folded(stages: nn.Sequential, images: Tensor) -> nn.Sequential:
    """Return ``stages`` for inference with batch normalization folded into convolutions (Jacob et al., 2018).

    Which belong together is seen on some normalized ``images``, ``(n, channels, size, size)``. The stages themselves
    are returned where nothing can be folded, or where the outputs would differ, since what a convolution returns is
    used elsewhere too.
    """
    made: dict[int, tuple[str, Tensor]] = {}  # by the identity of an output, which is kept alive here
    pairs: list[tuple[str, str]] = []

    def convolved(name: str, output: Tensor) -> None:
        made[id(output)] = name, output

    def normalized(name: str, given: Tensor) -> None:
        if id(given) in made:
            pairs.append((made[id(given)][0], name))

    hooks = []
    for name, module in stages.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(lambda *about, of=name: convolved(of, about[2])))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats and module.affine:
            hooks.append(module.register_forward_pre_hook(lambda *about, of=name: normalized(of, about[1][0])))
    try:
        expected = _last(stages, images)
    finally:
        for hook in hooks:
            hook.remove()
    once = [pair for pair in pairs if sum(pair[0] == conv or pair[1] == norm for conv, norm in pairs) == 1]
    if not once:
        return stages
    changed = copy.deepcopy(stages)
    for conv_name, norm_name in once:
        conv, norm = changed.get_submodule(conv_name), changed.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None and norm.running_var is not None
        statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
        parent, _, own = norm_name.rpartition(".")
        # The normalization of timm holds the activation after it.
        setattr(changed.get_submodule(parent), own, getattr(norm, "act", nn.Identity()))
    found = _last(changed, images)
    return changed if bool((found - expected).abs().max() <= _TOLERANCE * expected.abs().max()) else stages


def _last(stages: nn.Sequential, images: Tensor) -> Tensor:
    with torch.inference_mode():
        maps = stages(images)
    return maps[0] if isinstance(maps, tuple) else maps
