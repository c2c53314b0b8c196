"""A number without its interval, or a name from the data that writes markup."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.formatting import cost, ends, interval, lines, number, p_value, share
from pipelines.report import Code, Strong, as_html, as_markdown, items, report, section, table, text

HOSTILE = ("<script>x</script>", "a|b", "[x](javascript:y)", "`a`", "**a**", "_a_", "x\n# head", "![i](u)", "$a$&amp;")


def test_a_number_is_written_in_one_way_with_and_without_its_interval() -> None:
    found = {"value": 0.8, "low": 0.75, "high": 0.85}
    assert interval(found) == "0.800 [0.750, 0.850]"
    assert interval({**found, "low": None}) == "– (no interval)"
    assert interval({**found, "low": math.nan}, form=".3g", alone="{} (no interval)") == "0.8 (no interval)"
    assert interval({"value": None, "low": 0.1, "high": 0.2}, nothing="not defined") == "not defined"
    assert interval({"gain": -0.1, "low": -0.2, "high": 0.1}, "gain", sign="+") == "-0.100 [-0.200, +0.100]"
    assert ends({}) == "[–, –]" and number(True) == number(math.inf) == number("1") == "–"
    assert [p_value(p) for p in (None, math.nan, 1e-9, 0.0234, 0.5)] == ["–", "–", "< 0.001", "0.023", "0.50"]
    assert (share(0.875), share(None), cost(1234.5), cost(0.12345), cost(None)) == ("87.5%", "–", "1,234", "0.123", "–")
    assert lines(["name", "r2"], [["mlp", "0.9"], ["a", "-"]]) == "name   r2\n---------\nmlp   0.9\na       -"


@given(st.floats(-1e9, 1e9) | st.sampled_from([math.nan, math.inf, -math.inf]))
def test_no_number_becomes_nan_or_infinity_in_a_report(value: float) -> None:
    whole = interval({"value": value, "low": 0, "high": value})
    assert not re.search("nan|inf", " ".join([number(value), p_value(value), share(value), cost(value), whole]))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_text_in_every_block(name: str) -> None:
    blocks = [
        text(name, Strong(name), Code(name), "\n"),
        items([name]),
        table([name, ""], [[name, Code(name)]], ["bad"]),
    ]
    made = report(name, [section(name, *blocks), section("empty")], lead=name, simulated=True)
    page = as_html(made)
    assert "<script" not in page and "http" not in page and page.count("<br>") == 1 and "empty" not in page
    shown = as_markdown(made)
    outside = re.sub(r"`[^`\n]*`", "", shown)  # in code Markdown sees nothing
    assert not re.search(r"(?<!\\)(<script|\]\(|\*\*a\*\*|\$)", outside) and "\n# head" not in shown
    rows = [line for line in shown.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {3}


def test_pieces_keep_their_form() -> None:
    made = report("r", [section("s", text("see ", Code("a_b"), ", ", Strong("now")))])
    assert "see `a_b`, **now**" in as_markdown(made)
    assert "<code>a_b</code>, <b>now</b>" in as_html(made)
