"""A benchmark that no longer runs, or a page that cannot be written, would be found by whoever needs the figures."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from pipelines.files import read_json
from tests.bench.__main__ import BENCHES, function, main, run
from tests.bench.measured import Record
from tests.bench.report import records_of
from tests.bench.waits import ROOT, modules

# The others take longer than a quarter of a minute at any size; what they run is tested elsewhere.
QUICK = ("loop", "head", "images", "tables", "pancan", "scoring", "row")


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", QUICK)
def test_a_quick_benchmark_runs_and_records_what_it_measured(name: str) -> None:
    result = run(name, small=True)
    records = records_of(result)
    assert records and result["about"] and result["small"]
    for record in records:
        assert all(math.isfinite(value) and value > 0 for value in (record.ours, record.other, record.ratio)), record


def test_every_long_benchmark_is_there_and_can_be_imported() -> None:
    assert all(callable(function(name)) for name in BENCHES if name not in QUICK)


def test_the_cores_of_a_record_are_those_that_the_run_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {3}, raising=False)
    monkeypatch.setattr("tests.bench.__main__.function", lambda name: lambda small: [])
    assert run("loop", small=True)["cores"] == 1


def test_a_fault_does_not_keep_the_others_from_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(small: bool) -> list[Record]:
        raise ZeroDivisionError

    record = Record("a thing", 2.0, 3.0, 1.5, "s")
    jobs = {"loop": broken, "head": lambda small: [record]}
    monkeypatch.setattr("tests.bench.__main__.function", jobs.__getitem__)
    (tmp_path / "images").mkdir()
    with pytest.raises(SystemExit, match="loop FAILED: ZeroDivisionError"):
        main(["loop", "head", "--small", "--report", str(tmp_path)])
    (kept,) = read_json(tmp_path / "performance.json")["head"]["records"]
    assert kept == {**dataclasses.asdict(record), "sides": list(record.sides)}
    page = (tmp_path / "performance.md").read_text()
    assert "| a thing | ours: 2.000 s | other: 3.000 s | 1.500 times better |" in page
    assert "small sizes, which show that it works" in page


def test_a_figure_worse_than_noise_or_its_bound_is_an_error_and_none_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    monkeypatch.setattr("tests.bench.report.picture", lambda results: Figure())

    def bench(ratio: float, *more: str, **figures: Any) -> float:
        record = Record("a thing", 2.0, 3.0, ratio, "s", **figures)
        monkeypatch.setattr("tests.bench.__main__.function", lambda name: lambda small: [record])
        main(["head", "--report", str(tmp_path), *more])
        return kept()

    def kept() -> float:
        (record,) = read_json(tmp_path / "performance.json")["head"]["records"]
        return float(record["ratio"])

    assert (bench(1.5), bench(1.4), bench(2.0)) == (1.5, 1.4, 2.0)
    with pytest.raises(SystemExit, match=r"head is WORSE: a thing: 1.700 times better, recorded 2.000.* 15%"):
        bench(1.7)
    assert kept() == 2.0
    assert (bench(1.7, spread=0.1), bench(1.2, "--accept")) == (1.7, 1.2)
    with pytest.raises(SystemExit, match=r"head: a thing, .*at least 1.3: \*\*missed"):
        bench(1.2, bound=1.3)
    with pytest.raises(SystemExit, match=r"at most 1.3 s: \*\*missed"):
        bench(1.2, bound=1.3, bound_on="ours")
    beside: dict[str, Any] = {"higher_is_better": False, "sides": ("ours", "less")}
    assert (bench(1.2, **beside), bench(1.0, **beside)) == (1.2, 1.0)
    with pytest.raises(SystemExit, match=r"1.500 times as much, recorded 1.000"):
        bench(1.5, **beside)
    main(["head", "--report", str(tmp_path), "--small"])
    assert kept() == 1.0  # of full size
    monkeypatch.setattr("tests.bench.__main__.cores", lambda: 64)
    assert bench(9.0, **beside) == 9.0 and "not compared" in capsys.readouterr().out


def test_start_up_is_timed_of_commands_of_the_makefile_too() -> None:
    of_make_alone = {"pipelines.ingest", "serving.backup", "serving.restore", "serving.propose", "evaluation.score"}
    assert of_make_alone | {"evaluation.ablate", "training.tune"} <= set(modules())
