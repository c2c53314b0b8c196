"""What code of the rooms may not do: decide by a kind of task, use private interfaces, run code of a file.

A task is a modality and a problem, and nothing but their own modules decides by which it is.
"""

import ast
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import mlflow
import optuna

from evaluation.evidence import saved_view
from pipelines.problems import problem_names
from pipelines.tasks import task_types
from pipelines.tracking import ROOMS
from serving import mlflow_private
from training.studies import optuna_private

ROOT = Path(__file__).parents[1]
MODALITIES = {modality for modality, _ in task_types()}
KINDS = MODALITIES | set(problem_names()) | {"_".join(kind) for kind in task_types()}


@cache
def code() -> dict[str, list[ast.AST]]:
    files = [path for room in (*ROOMS, "infra") for path in sorted((ROOT / room).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): list(ast.walk(ast.parse(path.read_bytes()))) for path in files}


def found_in_code(look: Callable[[Iterable[ast.AST]], list[str]]) -> dict[str, list[str]]:
    return {name: found for name, nodes in code().items() if (found := look(nodes))}


def found_in(source: str, look: Callable[[Iterable[ast.AST]], list[str]]) -> list[str]:
    return look(ast.walk(ast.parse(source)))


def decisions(nodes: Iterable[ast.AST]) -> list[str]:
    found = []
    for node in nodes:
        text = ast.unparse(node)[:80] if isinstance(node, (ast.Call, ast.Compare, ast.Dict)) else ""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "type"):
            names = [each.id for part in node.args[1:] for each in ast.walk(part) if isinstance(each, ast.Name)]
            if any(map(_is_of_a_kind, names)) or text in ("type(task)", "type(contract)", "type(samples)"):
                found.append(text)
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            asked = [each for each in sides if isinstance(each, ast.Attribute) and each.attr in ("modality", "problem")]
            if asked and any(isinstance(each, (ast.Constant, ast.Tuple, ast.Set, ast.List)) for each in sides):
                found.append(text)
        elif isinstance(node, ast.Dict):
            keys = {each.value for each in node.keys if isinstance(each, ast.Constant)}
            if len(keys & KINDS) > 1 or (keys & MODALITIES and keys <= KINDS):
                found.append(text)
    return found


def _is_of_a_kind(name: str) -> bool:
    parts = ("Task", "Contract", "Samples", "Classification", "Regression", "MultiTarget")
    return name.endswith(parts) and name not in ("Task", "Contract")


def test_only_the_modules_of_a_modality_or_a_problem_decide_by_it() -> None:
    def own(name: str) -> bool:
        return any(Path(name).stem == kind or Path(name).stem.startswith(f"{kind}_") for kind in KINDS)

    assert {name: found for name, found in found_in_code(decisions).items() if not own(name)} == {}

    for source in (
        *("isinstance(task, ProfilesTask)", "isinstance(samples, (ImageSamples, ResponseSamples))"),
        *("isinstance(task, PairsClassification)", "{'images': 1, 'pairs': 2}", "type(task) is PairsTask"),
        *("task.problem == 'classification'", "task.modality in ('images', 'pairs')"),
    ):
        assert len(found_in(source, decisions)) == 1, source
    fine = "isinstance(error, DataError), task.modality == samples.modality, {'images': 1, 'rows': 2}"
    assert found_in(fine, decisions) == []


# Interfaces of MLflow and Optuna that are not public: another release may change them.

PRIVATE = ("mlflow.store", "mlflow.server", "mlflow.utils", "mlflow.pyfunc.scoring_server")
HOLDERS = {"serving/mlflow_private.py", "training/studies/optuna_private.py"}


def private_imports(nodes: Iterable[ast.AST]) -> list[str]:
    found = []
    for node in nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            package = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            found += [f"{package}{each.name}" for each in node.names]
    return [name for name in found if name.split(".")[0] in ("mlflow", "optuna") and _is_private(name)]


def _is_private(name: str) -> bool:
    return "._" in name or f"{name}.".startswith(tuple(f"{each}." for each in PRIVATE))


def test_private_interfaces_are_used_in_one_module_a_library_and_of_the_release_it_was_seen_with() -> None:
    for source in (
        "from optuna.storages._cached_storage import _CachedStorage",
        "from mlflow.pyfunc import scoring_server",
        "def f():\n    import mlflow.store.model_registry.dbmodels.models",
    ):
        assert len(found_in(source, private_imports)) == 1
    assert not found_in("from mlflow import MlflowClient\nfrom optuna.storages import RDBStorage", private_imports)
    assert set(found_in_code(private_imports)) <= HOLDERS
    modules: tuple[tuple[Any, Any], ...] = ((mlflow_private, mlflow), (saved_view, mlflow), (optuna_private, optuna))
    for holder, library in modules:
        assert library.__version__ == holder.SEEN_WITH, (
            f"{holder.__name__} was seen with {holder.SEEN_WITH}, {library.__version__} is installed: look whether "
            "each thing it uses is still there and does the same, then change SEEN_WITH"
        )


# Code of a file or of a shell; what `tests/test_no_pickle.py` plants is refused where it is read.

_MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
_NEVER = {"eval", "exec", "compile", "os.system", "os.popen", "pandas.read_pickle", "pd.read_pickle", "yaml.load"}
_NEVER |= {"yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "torch.jit.load", "torch.package.PackageImporter"}
_SETTINGS = {"allow_pickle", "shell", "trust_remote_code", "allow_dangerous_deserialization"}


def faults(nodes: Iterable[ast.AST]) -> list[str]:
    found = []
    for node in nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"imports {name}" for name in names if name.split(".")[0] in _MODULES]
        if isinstance(node, ast.Call):
            name, given = ast.unparse(node.func), {each.arg: ast.unparse(each.value) for each in node.keywords}
            if name in _NEVER or (name == "torch.load" and given.get("weights_only") != "True"):
                found.append(f"calls {name}")
            found += [f"{each}={given[each]}" for each in _SETTINGS & set(given) if given[each] != "False"]
    return found


COULD = (
    *("import pickle", "from joblib import load", "import os, dill", "from cloudpickle.cloudpickle import loads"),
    *("eval('1')", "exec(code)", "yaml.load(text, Loader=yaml.Loader)", "os.system('ls')", "pd.read_pickle(path)"),
    *("torch.load(path)", "torch.load(path, weights_only=False)", "torch.load(path, weights_only=wanted)"),
    *("np.load(path, allow_pickle=True)", "np.load(path, allow_pickle=given)", "subprocess.run(text, shell=True)"),
)


def test_no_code_of_the_rooms_runs_code_of_a_file() -> None:
    assert [source for source in COULD if len(found_in(source, faults)) != 1] == []
    fine = "network.eval(); yaml.safe_load(text); np.load(path); torch.load(path, weights_only=True); re.compile('a')"
    assert found_in(fine, faults) == []
    # Of PyTorch's own reading without code: its error has no other name. A user's TorchScript is a program without
    # Python, and is loaded only where its hash is that of params.yaml: `tests/training/test_encoders.py`.
    known = {"training/backbone.py": ["imports pickle"], "training/encoder_stages.py": ["calls torch.jit.load"]}
    assert found_in_code(faults) == known
