"""The budget of this checkout: ``python -m pipelines.budget --task T [--budget B]`` checks it and keeps it."""

from pathlib import Path

from pipelines.command import parser, run_command
from pipelines.errors import UserError
from pipelines.params import BUDGET_FILE, read_params


def main() -> None:
    """Write ``budget.yaml`` if a budget is named; refuse an unknown one, and one that says nothing of the task."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--budget", default="", help="quick, full, or one of `budgets` in params.yaml")
    given = arguments.parse_args()
    params = read_params(of_checkout=not given.budget)
    budget = given.budget or params.budget
    known = params.known_budgets
    if budget not in known:
        raise UserError(f"BUDGET is {budget!r}; it must be one of {', '.join(known)}")
    params.task(given.task)
    if budget != "quick" and given.task not in params.budgets.get(budget, params.tasks):
        others = ", ".join(params.budgets[budget])
        raise UserError(f"the budget {budget} is for {others}, not for {given.task}; name another one with BUDGET=")
    if given.budget:
        Path(BUDGET_FILE).write_text(f"budget: {budget}\n", encoding="utf-8")


if __name__ == "__main__":
    run_command(main)
