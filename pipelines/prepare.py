"""Stage ``prepare``: validated raw tables become the table of samples with group, split and fold."""

from pipelines.command import parser, run_command
from pipelines.params import read_params
from pipelines.paths import DATA, PREPARED


def main() -> int:
    """``python -m pipelines.prepare --task T``."""
    arguments = parser(__doc__ or "").parse_args()
    from pipelines.datasets import prepare, write_prepared
    from pipelines.samples.label_decisions import read_decisions

    params = read_params()
    task = params.task(arguments.task)
    folder = DATA / arguments.task
    prepared = prepare(task.read(folder), task, params.seed, read_decisions(folder))
    write_prepared(prepared, PREPARED / arguments.task, task, params.seed)
    rows, sides = prepared.counts["rows"], prepared.table["split"].value_counts()
    dropped = ", ".join(f"{count} {rule}" for rule, count in rows["dropped"].items() if count) or "none"
    tested = f"{sides['test']} test" if not prepared.parts else f"tested in turn in {len(prepared.parts)} parts"
    print(
        f"{arguments.task}: {rows['kept']} of {rows['raw']} samples kept (dropped: {dropped}); "
        f"{task.split.mode}: {sides['train']} train, {sides['validation']} validation, {tested}"
    )
    if untested := prepared.counts.get("untested_classes"):
        print(f"{arguments.task}: no row of {', '.join(untested)} is tested; scores are of the other classes")
    return 0


if __name__ == "__main__":
    run_command(main)
