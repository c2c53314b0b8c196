"""Graphs of XGBoost's trees."""

import json

import numpy as np
import torch
import xgboost
from torch import Tensor, nn

_NODES = ("feature", "split", "left", "right", "unknown_left")


class Trees(nn.Module):
    """The margins ``(n, outputs)`` of a booster: its trees are walked level by level, all at once."""

    def __init__(self, booster: xgboost.Booster) -> None:
        super().__init__()
        model = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]["model"]
        trees, output = model["trees"], np.array(model["tree_info"])
        first = np.cumsum([0, *(len(tree["left_children"]) for tree in trees)])
        nodes: dict[str, list[np.ndarray]] = {
            name: [] for name in ("feature", "split", "left", "right", "unknown_left")
        }
        for tree, start in zip(trees, first, strict=False):
            left, right = (np.array(tree[f"{side}_children"]) for side in ("left", "right"))
            leaf, own = left < 0, start + np.arange(len(left))
            nodes["feature"].append(np.where(leaf, 0, tree["split_indices"]))
            nodes["split"].append(np.array(tree["split_conditions"], np.float32))  # of a leaf its value
            nodes["left"].append(np.where(leaf, own, start + left))  # a leaf leads to itself
            nodes["right"].append(np.where(leaf, own, start + right))
            nodes["unknown_left"].append(np.array(tree["default_left"], bool))
        for name, parts in nodes.items():
            self.register_buffer(name, torch.as_tensor(np.concatenate(parts)))
        self.register_buffer("root", torch.as_tensor(first[:-1]))
        self.register_buffer("output", torch.eye(output.max() + 1, dtype=torch.float64)[torch.as_tensor(output)])
        self.register_buffer("base", torch.zeros(output.max() + 1, dtype=torch.float64))
        self.depth = max(_depth(tree["left_children"], tree["right_children"]) for tree in trees)
        # Releases of XGBoost write the constant in several ways: it is what their answer has beyond the trees.
        row = np.zeros((1, booster.num_features()), np.float32)
        margin = booster.predict(xgboost.DMatrix(row), output_margin=True).reshape(1, -1)
        self.get_buffer("base").copy_(torch.as_tensor(margin[0]) - self(torch.as_tensor(row))[0])

    def forward(self, matrix: Tensor) -> Tensor:
        """Return margins of features, float32 ``(n, features)``, NaN where they are unknown."""
        feature, split, left, right, unknown_left = map(self.get_buffer, _NODES)
        node = self.get_buffer("root").expand(matrix.shape[0], -1)
        for _ in range(self.depth):
            value = matrix.gather(1, feature[node])
            goes_left = (value < split[node]) | (value.isnan() & unknown_left[node])
            node = torch.where(goes_left, left[node], right[node])
        return split[node].double() @ self.get_buffer("output") + self.get_buffer("base")


def _depth(left: list[int], right: list[int]) -> int:
    depth = np.zeros(len(left), int)
    for node, (one, other) in enumerate(zip(left, right, strict=True)):  # children come after their parent
        if one >= 0:
            depth[[one, other]] = depth[node] + 1
    return int(depth.max(initial=0))
