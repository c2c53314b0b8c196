"""Stage ``leaderboard``: the architectures of a task side by side, each with its interval and its margin."""

from pipelines.command import parser, run_command
from pipelines.errors import UserError
from pipelines.params import Params, read_params
from pipelines.paths import REPORTS


def main() -> int:
    """``python -m evaluation.leaderboard --task T [--show]``."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--show", action="store_true", help="print what the stage wrote and compute nothing")
    given = arguments.parse_args()
    params = read_params()
    if not given.show:
        from evaluation.comparison.ranking import leaderboard
        from evaluation.evidence.saved_view import view_tags
        from evaluation.evidence.summary import NOTE, SIMULATED, board
        from evaluation.figures import comparison  # `--show` draws nothing
        from evaluation.results import write_board
        from pipelines import tracking
        from pipelines.files import write_json
        from pipelines.problems import higher_is_better

        folder = REPORTS / given.task
        rows = leaderboard(given.task, params)
        write_json(folder / "leaderboard.json", rows)
        write_board(given.task, rows)
        task = params.task(given.task)
        at = tracking.experiment(given.task)
        lead = f"Test scores of {given.task}, split {task.split.mode}, margin over {task.evaluate.baseline}"
        lead += f"; {SIMULATED}" if rows[0]["simulated"] else ""
        higher, client = higher_is_better(task.evaluate.metric), tracking.mlflow.MlflowClient()
        tags = {NOTE: board(rows, lead, at), **view_tags(task.evaluate.metric, higher_is_better=higher)}
        for tag, text in tags.items():
            tracking.patiently(lambda tag=tag, text=text: client.set_experiment_tag(at, tag, text))  # type: ignore[misc]
        drawn = {"task": given.task, "mode": task.split.mode, "metric": task.evaluate.metric, "rows": rows}
        drawn |= {"simulated": rows[0]["simulated"], "confidence": task.evaluate.confidence}
        drawn["higher_is_better"] = higher
        comparison.intervals(drawn).savefig(folder / "leaderboard.png")
        comparison.quality_against_cost(drawn).savefig(folder / "quality_against_cost.png")
    show(given.task, params)
    return 0


def show(name: str, params: Params) -> None:
    """Print the leaderboard of a task; `UserError` where there is none yet."""
    from evaluation.comparison.ranking import as_text
    from pipelines.files import read_json

    path = REPORTS / name / "leaderboard.json"
    if not path.is_file():
        raise UserError(f"there is no leaderboard of {name} yet; run `make train TASK={name}`")
    print(as_text(name, params, read_json(path)))


if __name__ == "__main__":
    run_command(main)
