"""A registered model written for other runtimes, and held against the endpoint's answers before it leaves."""

import importlib
import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation.promotion.scoring import load
from pipelines.datasets import read_prepared
from pipelines.errors import UserError
from pipelines.files import jsonable, write_json
from pipelines.params import read_task
from training.graphs import Formula, Graph
from training.model.predictor import Predictor

TOLERANCE = 1e-5  # between the answers of the file and of the endpoint; relative above 1
MODEL, ABOUT, OUTPUT = "model.onnx", "export.json", "output"
_ROWS = 256  # asked at a time
_TRACED = 3  # rows by which the graph is traced: with one, its first axis would count as fixed


def export(uri: str, folder: Path, tolerance: float = TOLERANCE) -> dict[str, Any]:
    """Write the model behind ``uri`` into a new ``folder``: ``model.onnx``, and ``export.json``, which is returned.
    `UserError`, and no folder, if a package is missing, the model has no graph,
       or its answers to the test rows are not those of the endpoint.
    """
    runtime = _packages()
    if folder.exists():
        raise UserError(f"{folder} exists; name a new folder")
    model = load(uri, served=True)
    graph = model.estimator.graph(model.contract)
    prepared = read_prepared(model.contract.task, read_task(model.contract.task_text))
    samples = prepared.samples.take(prepared.tested)
    with tempfile.TemporaryDirectory(prefix="oncolineage-", dir=folder.resolve().parent) as temporary:
        place = Path(temporary) / "export"
        place.mkdir()
        _write_onnx(model, graph, graph.inputs(samples.take(np.arange(_TRACED))), place / MODEL)
        session = runtime.InferenceSession(place / MODEL, providers=["CPUExecutionProvider"])
        gap = largest_gap(model, graph, samples, lambda given: session.run([OUTPUT], given)[0])
        if not gap <= tolerance:
            raise UserError(
                f"{uri}: the exported model differs from the endpoint by {gap:.1e} on {len(samples)} test rows, more "
                f"than {tolerance:g}; nothing was written. If that is the rounding of float32 in a deep network and "
                "does not matter to you, allow it: TOLERANCE=..."
            )
        about = {
            "model": uri,
            "task": model.contract.task,
            "architecture": model.contract.architecture,
            "version": model.version,
            "files.sha256": model.files_sha256,
            "inputs": {each.name: _described(each, graph.about) for each in session.get_inputs()},
            "output": model.contract.outputs_text,
            "rows_compared": len(samples),
            "largest_difference": gap,
            "tolerance": tolerance,
            "contract": asdict(model.contract),
        }
        write_json(place / ABOUT, jsonable(about))
        place.rename(folder)
    return about


def largest_gap(
    model: Predictor, graph: Graph, samples: Any, answer: Callable[[dict[str, np.ndarray]], np.ndarray]
) -> float:
    """Return the largest difference between ``answer`` and what the endpoint answers to requests of ``samples``.

    It is relative where answers are above 1, and infinite where one is not finite.
    """
    contract, largest = model.contract, 0.0
    for start in range(0, len(samples), _ROWS):
        part = samples.take(np.arange(start, min(start + _ROWS, len(samples))))
        asked = contract.read(contract.request(part))
        expected = model.outputs(asked)
        gap = np.abs(answer(graph.inputs(asked)) - expected) / np.maximum(1, np.abs(expected))
        largest = max(largest, float(np.nan_to_num(gap, nan=np.inf).max(initial=0)))
    return largest


def _packages() -> Any:
    """Return ``onnxruntime``; `UserError` where it, or what writes its files, is not installed."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            package = importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise UserError(f"FORMAT=onnx needs the package {name}: pip install -e .[onnx]") from error
    return package


def _write_onnx(model: Predictor, graph: Graph, example: dict[str, np.ndarray], path: Path) -> None:
    rows = torch.export.Dim("rows")
    tensors = tuple(map(torch.as_tensor, example.values()))
    shapes = tuple(
        {axis: torch.export.Dim.AUTO for axis in range(1, tensor.ndim) if name in graph.ragged} | {0: rows}
        for name, tensor in zip(example, tensors, strict=True)
    )
    module = Formula(lambda found: found, model.contract.calibrated_graph(graph.module)).eval()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            named: Any = {"input_names": list(example), "output_names": [OUTPUT]}
            written = torch.onnx.export(module, tensors, dynamic_shapes=(shapes,), verbose=False, **named)
            assert written is not None
            written.save(path)
    except Exception as error:  # PyTorch raises many types for what it cannot translate
        what = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{model.contract.architecture} cannot be written as ONNX: {what}") from error


def _described(given: Any, about: Mapping[str, str]) -> dict[str, Any]:
    return {"type": given.type, "shape": given.shape, "holds": about[given.name]}
