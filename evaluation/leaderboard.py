"""Stage ``leaderboard``: the architectures of a task side by side, each with its interval and its margin."""

from __future__ import annotations

from pipelines.command import parser, run_command
from pipelines.errors import UserError
from pipelines.params import read_params
from pipelines.paths import REPORTS


def main() -> int:
    """``python -m evaluation.leaderboard --task T [--show]``."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--show", action="store_true", help="print what the stage wrote and compute nothing")
    given = arguments.parse_args()
    from evaluation.comparison.ranking import agreement_text, as_text, cost_text, leaderboard, title_of
    from pipelines.files import read_json, write_json
    from pipelines.problems import higher_is_better

    params = read_params()
    folder = REPORTS / given.task
    if given.show:
        if not (folder / "leaderboard.json").is_file():
            raise UserError(f"there is no leaderboard of {given.task} yet; run `make train TASK={given.task}`")
        rows = read_json(folder / "leaderboard.json")
    else:
        rows = leaderboard(given.task, params)
        write_json(folder / "leaderboard.json", rows)
        from evaluation.figures import comparison  # here: `--show` draws nothing

        task = params.task(given.task)
        board = {"task": given.task, "mode": task.split.mode, "metric": task.evaluate.metric, "rows": rows}
        board |= {"simulated": rows[0]["simulated"], "confidence": task.evaluate.confidence}
        board["higher_is_better"] = higher_is_better(task.evaluate.metric)
        comparison.intervals(board).savefig(folder / "leaderboard.png")
        comparison.quality_against_cost(board).savefig(folder / "quality_against_cost.png")
    print(as_text(rows, title_of(given.task, params, rows)))
    print("\n" + cost_text(rows) + "\n")
    if shown := agreement_text(rows):
        print(shown)
    return 0


if __name__ == "__main__":
    run_command(main)
