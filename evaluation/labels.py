"""Labels that are doubtful: a table and a page, the worst first, for a person to look at; no label is changed by it.

With ``--answers`` samples without a label, in the order in which labels help most.
"""

import importlib.util
from pathlib import Path

from pipelines.command import parser, run_command
from pipelines.errors import UserError
from pipelines.params import read_params
from pipelines.paths import DATA, MODELS, REPORTS


def main() -> int:
    """``python -m evaluation.labels --task T [--architecture A | --answers DIR]``."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--architecture", default="", help="that sees the samples (default: a cheap one)")
    arguments.add_argument("--answers", default="", help="what `make predict OUT=DIR` wrote of unlabeled samples")
    given = arguments.parse_args()
    name, params = given.task, read_params()
    task = params.task(name)
    if given.answers:
        return _ask(name, Path(given.answers))
    if importlib.util.find_spec(doctor := f"evaluation.label_doctor.{task.modality}") is None:
        raise UserError(f"{name}: its labels are measured, not given by people; there is none to doubt")
    from evaluation.label_doctor.find import out_of_fold, queue
    from evaluation.label_doctor.page import page
    from pipelines.datasets import read_prepared
    from pipelines.files import read_json, written_whole
    from pipelines.samples.label_decisions import read_decisions
    from training.architectures import get_architecture
    from training.studies.trials import fit_settings

    prepared = read_prepared(name, task)
    if not prepared.samples.classes:
        raise UserError(f"{name} has no classes; there is no label to doubt")
    default = importlib.import_module(doctor)
    architecture = get_architecture(given.architecture or default.ARCHITECTURE, task.modality, task.problem)
    tuned = MODELS / name / architecture.name / "tuned.json"
    if given.architecture and tuned.is_file():
        hyperparameters = dict(read_json(tuned)["hyperparameters"])
    else:
        hyperparameters = architecture.first_trial(fit_settings(params, task))
        hyperparameters |= {} if given.architecture else default.HYPERPARAMETERS
    of = out_of_fold(architecture, hyperparameters, prepared, params, task)
    found = queue(of, prepared, read_decisions(DATA / name))
    folder = REPORTS / name
    with written_whole(folder / "labels.csv") as path:
        found.to_csv(path, index=False)
    with written_whole(folder / "labels.html") as path:
        path.write_text(page(name, found, prepared), encoding="utf-8")
    open_ones = found[found["decision"] == ""]
    print(
        f"{name}: {len(found)} of {len(prepared.table):,} labels are doubtful by {architecture.name}, of which "
        f"{len(open_ones)} are undecided and {int(open_ones['tested'].sum())} of these tested; see {folder}/labels.csv "
        "and labels.html"
    )
    return 0


def _ask(name: str, folder: Path) -> int:
    from evaluation.label_doctor.ask import read_answers, to_label
    from pipelines.files import written_whole

    ranked = to_label(read_answers(folder, name))
    with written_whole(REPORTS / name / "to_label.csv") as path:
        ranked.to_csv(path, index=False)
    print(f"{name}: {len(ranked):,} samples, those first whose labels help most; see {REPORTS / name}/to_label.csv")
    return 0


if __name__ == "__main__":
    run_command(main)
