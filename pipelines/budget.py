"""The budget of this checkout: ``python -m pipelines.budget --task T [--budget B]`` checks it and keeps it.

With ``--architecture`` it also checks that ``params.yaml`` names that model of the task.
"""

from pathlib import Path

from pipelines.command import parser, run_command
from pipelines.errors import UserError
from pipelines.params import BUDGET_FILE, read_params


def main() -> None:
    """Write ``budget.yaml`` if a budget is named; refuse unknown names, and a budget that says nothing of the task."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--budget", default="", help="quick, full, or one of `budgets` in params.yaml")
    arguments.add_argument("--architecture", default="", help="one of those that `models` in params.yaml names")
    given = arguments.parse_args()
    params = read_params(of_checkout=not given.budget)
    budget = given.budget or params.budget
    known = params.known_budgets
    if budget not in known:
        raise UserError(f"BUDGET is {budget!r}; it must be one of {', '.join(known)}")
    params.task(given.task)
    if given.architecture and given.architecture not in (there := params.architectures(given.task)):
        names = ", ".join(there)
        raise UserError(f"ARCH is {given.architecture!r}; name one of those of {given.task} in params.yaml: {names}")
    if budget != "quick" and given.task not in params.budgets.get(budget, params.tasks):
        others = ", ".join(params.budgets[budget])
        raise UserError(f"the budget {budget} is for {others}, not for {given.task}; name another one with BUDGET=")
    if given.budget:
        Path(BUDGET_FILE).write_text(f"budget: {budget}\n", encoding="utf-8")


if __name__ == "__main__":
    run_command(main)
