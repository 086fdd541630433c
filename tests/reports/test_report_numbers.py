"""Numbers carry their card, and are written with the digits that their interval supports."""

from __future__ import annotations

import csv
import io
import re

import pytest

from tacit.core.values import Score
from tacit.reports import Difference, Result, Scores, Table, verdict
from tacit.reports.numbers import Style, decimals, join, short, signed, written


def result(model: str, value: float, half: float = 0.01, protocol: str = "linear@1", **more) -> Result:
    card = {"n": 450, "seeds": 5, "chance": 0.1, **more}
    return Result(model=model, protocol=protocol, value=value, low=value - half, high=value + half, **card)


def test_a_number_without_an_interval_is_refused():
    sentence = "a number carries its card: 'linear@1' of 'learned' has no interval. Give low and high, or leave the number out."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Result(model="learned", protocol="linear@1", value=0.9, n=450)


def test_a_number_without_n_is_refused():
    sentence = "a number carries its card: 'linear@1' of 'learned' has no n. Say over how many items it was measured."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Result(model="learned", protocol="linear@1", value=0.9, low=0.8, high=1.0)


def test_other_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match=r"'p' of 'm' has seeds=0\. Give at least 1\."):
        Result(model="m", protocol="p", value=0.5, low=0.4, high=0.6, n=3, seeds=0)
    with pytest.raises(ValueError, match=r"'p' of 'm' is nan: leave a number out that was not measured\."):
        Result(model="m", protocol="p", value=float("nan"), low=0.4, high=0.6, n=3)
    with pytest.raises(ValueError, match=r"the value 0\.7 lies outside its interval \[0\.4, 0\.6\]\."):
        Result(model="m", protocol="p", value=0.7, low=0.4, high=0.6, n=3)
    with pytest.raises(ValueError, match=r"the difference to 'raw' has no interval"):
        Difference("raw", 0.1, float("nan"), 0.2)


def test_rows_as_mappings_give_equal_results_and_misspelt_fields_are_named():
    row = {"model": "m", "protocol": "p", "value": 0.5, "low": 0.4, "high": 0.6, "n": 10}
    row["differences"] = [{"to": "raw", "value": 0.1, "low": 0.0, "high": 0.2}]
    differences = (Difference("raw", 0.1, 0.0, 0.2),)
    assert Result.of(row) == Result(
        model="m", protocol="p", value=0.5, low=0.4, high=0.6, n=10, differences=differences
    )
    with pytest.raises(ValueError, match="a result has no field 'hihg': it has chance, differences, high"):
        Result.of({"model": "m", "protocol": "p", "value": 0.5, "hihg": 0.6})
    with pytest.raises(ValueError, match=r"a result names its protocol; found only model, value\."):
        Result.of({"model": "m", "value": 0.5})


@pytest.mark.parametrize(
    ("half", "percent", "places"),
    [(0.2, True, 0), (0.01, True, 1), (0.0002, True, 2), (0.0, True, 1), (0.03, False, 3)],
)
def test_digits_follow_the_interval(half: float, percent: bool, places: int):
    assert decimals([(0.5 - half, 0.5 + half)], percent=percent) == places


def test_digits_of_other_units_show_the_half_width_with_two_figures():
    for exponent in range(-3, 2):
        half = 3.4 * 10.0**exponent
        assert decimals([(-half, half)], percent=False) == max(0, 1 - exponent)


def test_signs_and_zero():
    assert written(-0.0001, 1, percent=True) == "0.0"
    assert written(-0.25, 1, percent=True) == "−25.0"
    assert [signed(x, 1, percent=True) for x in (0.109, -0.004, 0.0001)] == ["+10.9", "−0.4", "±0.0"]
    assert short(float("inf")) == "not finite"
    assert join(["a"]) == "a" and join(["a", "b", "c"]) == "a, b and c" and join([]) == ""
    assert Style(percent=True, places=1).cell(None) == "–"


def test_best_is_marked_only_when_its_interval_is_clear():
    clear = Table([result("a", 0.90), result("b", 0.87)])
    touching = Table([result("a", 0.90), result("b", 0.89)])
    assert clear.clearly_best("linear@1") is clear.results[0]
    assert touching.clearly_best("linear@1") is None
    assert Table([result("a", 0.9)]).clearly_best("linear@1") is None
    assert Table([result("a", 0.90), result("b", 0.87)], higher=False).clearly_best("linear@1").model == "b"
    assert Table([result("a", 0.90), result("b", 0.60)], higher=None).clearly_best("linear@1") is None


def test_a_wide_interval_of_a_worse_model_keeps_the_best_unmarked():
    """The rival with the highest upper end counts, not the one with the second-best value."""
    results = [result("a", 0.90), result("b", 0.87), result("c", 0.80, half=0.15)]
    assert Table(results).clearly_best("linear@1") is None


def test_text_forms_hold_the_same_cells():
    better = Difference("raw", 0.109, 0.092, 0.125)
    table = Table([result("learned", 0.912, differences=(better,)), result("raw", 0.803)])
    markdown, text = table.to_markdown(), table.to_text()
    assert markdown.splitlines()[0] == "| protocol | learned | raw | chance | n | seeds | learned − raw |"
    assert (
        "| linear@1 | **91.2 % [90.2, 92.2]** | 80.3 % [79.3, 81.3] | 10.0 % | 450 | 5 | +10.9 [9.2, 12.5] |"
        in markdown
    )
    assert "91.2 % [90.2, 92.2] *" in text and "80.3 % [79.3, 81.3]" in text
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert [float(row["value"]) for row in rows] == [0.912, 0.803]
    assert float(rows[0]["low of difference to raw"]) == 0.092 and rows[1]["difference to raw"] == ""


def test_pipes_in_names_do_not_break_the_markdown_table():
    lines = Table([result("a|b", 0.5)]).to_markdown().splitlines()
    assert "a\\|b" in lines[0] and len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_unequal_cards_stand_in_their_own_cells():
    html = Table([result("a", 0.9, n=450), result("b", 0.8, n=900)]).html()
    assert "n = 450 · 5 seeds" in html and "n = 900 · 5 seeds" in html
    assert Table([result("a", 0.9, n=450), result("b", 0.8, n=900)]).grid()[1][0][4] == "450 / 900"


def test_two_results_in_one_cell_are_refused():
    with pytest.raises(
        ValueError, match=r"two results for 'linear@1' of 'a': a table has one\. Name the protocols apart\."
    ):
        Table([result("a", 0.9), result("a", 0.8)])


def test_no_labels_is_said_in_one_line():
    table = Table([])
    assert table.to_text() == table.to_markdown() == table.absent + "\n"
    assert table.absent in table.html()
    assert verdict(table, model="learned") == table.absent


def test_verdict_says_what_the_table_says():
    found = (Difference("raw", 0.109, 0.092, 0.125), Difference("untrained", 0.01, -0.01, 0.03))
    table = Table([result("learned", 0.912, differences=found), result("raw", 0.803)])
    assert verdict(
        table, model="learned", opening="With 5 labels a class, a linear probe", names={"raw": "raw pixels"}
    ) == (
        "With 5 labels a class, a linear probe on learned reaches 91.2 % [90.2, 92.2] (n = 450, 5 seeds). "
        "The same probe reaches 80.3 % [79.3, 81.3] on raw pixels. Guessing reaches 10.0 %. "
        "Paired on the same items, the difference is +10.9 points [9.2, 12.5] over raw pixels: clear of zero. "
        "Paired on the same items, the difference is +1.0 points [−1.0, 3.0] over untrained: "
        "not clear of zero, so no difference is shown."
    )
    with pytest.raises(ValueError, match=r"no result of 'lerned' under 'linear@1': it has learned, raw\."):
        verdict(table, model="lerned")
    with pytest.raises(ValueError, match=r"no protocol 'knn@1' in the table: it has linear@1\."):
        verdict(table, model="learned", protocol="knn@1")


def test_scores_show_n_protocol_and_note():
    scores = Scores(
        {"learned": [Score(43.21, 1797, "rankme@1", "of 64")], "untrained": [Score(float("nan"), 1797, "rankme@1")]}
    )
    assert scores.grid() == (
        ["protocol", "learned", "untrained", "n", "note"],
        [["rankme@1", "43.21", "not finite", "1797", "learned: of 64"]],
    )
    assert "43.21" in scores.to_text() and "| rankme@1 | 43.21 |" in scores.to_markdown()
    assert Scores({}).absent in Scores({}).html()
