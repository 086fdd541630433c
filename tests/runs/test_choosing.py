"""The comparison of a sweep: who chooses which run, and what it is worth here and on other data."""

from __future__ import annotations

import pytest

from tacit import recipes
from tacit.core.recipe import to_yaml
from tacit.core.values import Score
from tacit.runs.sweeping import Sweep, _comparison, _section

RANKS = {"low": 5.0, "middle": 9.0, "high": 20.0}
HERE = {"low": 0.60, "middle": 0.90, "high": 0.85}
ELSEWHERE = {"low": 0.30, "middle": 0.40, "high": 0.55}


def result(value):
    return {
        "model": "trained",
        "protocol": "linear/all@1",
        "value": value,
        "low": value - 0.05,
        "high": value + 0.05,
        "n": 100,
        "seeds": 1,
        "chance": 0.1,
        "differences": [],
    }


def values(elsewhere=ELSEWHERE):
    base = recipes.load("ssl.dcl_digits")
    found = []
    for i, (name, rank) in enumerate(RANKS.items()):
        one = {"name": name, "recipe": to_yaml(base.change(seed=i)), "folder": name}
        one["scores"] = [vars(Score(rank, 100, "rankme/eps=1e-07@1"))]
        one["results"] = [result(HERE[name])] if HERE[name] else []
        one["elsewhere"] = [result(elsewhere[name])]
        found.append(one)
    return found


def test_three_choices_each_with_what_it_reaches():
    rows = _comparison(_section(values()), _section(values(), "elsewhere"))
    assert rows == [
        ["RankMe", "high", "85.0 [80.0, 90.0]", "55.0 [50.0, 60.0]"],
        ["labels", "middle", "90.0 [85.0, 95.0]", "40.0 [35.0, 45.0]"],
        ["the best elsewhere", "high", "85.0 [80.0, 90.0]", "55.0 [50.0, 60.0]"],
    ]


def test_without_other_data_labels_choose_the_best_there_is():
    rows = _comparison(_section(values()), None)
    assert [row[:2] for row in rows] == [["RankMe", "high"], ["labels", "middle"], ["the best possible", "middle"]]
    assert {row[3] for row in rows} == {""}


def test_without_labels_there_is_nothing_to_compare(monkeypatch):
    for name in HERE:
        monkeypatch.setitem(HERE, name, 0)
    assert _comparison(_section(values()), None) == []


def test_the_sweep_says_it_in_words_and_for_machines(tmp_path):
    section, other = _section(values()), _section(values(), "elsewhere")
    found = Sweep(tmp_path, section, [], tmp_path / "report", other)
    text = found.text()
    assert "chosen by" in text and "the best elsewhere" in text and "Elsewhere: rankme" in text
    plain = found.to_plain()["comparison"]
    assert plain[0] == {
        "chosen by": "RankMe",
        "run": "high",
        "linear here, %": "85.0 [80.0, 90.0]",
        "linear elsewhere, %": "55.0 [50.0, 60.0]",
    }


@pytest.mark.slow
def test_a_sweep_probes_its_runs_on_other_data(tmp_path):
    from tacit.runs import sweep

    tiny = [
        *("steps=3", "batch=16", "checks.save_every=0", "checks.judge_every=0", "machine.threads=1"),
        *("system.encoder.widths=[4,8]", "system.projector.widths=[8,8]"),
        *("data=glyphs", "data.count=200", "data.classes=4"),
    ]
    found = sweep(
        "ssl.dcl_digits",
        ["optim.lr=0.001", *tiny],
        engine="serial",
        root=tmp_path / "runs",
        quiet=True,
        elsewhere=["data.hue=[0.5,0.5]", "data.count=120"],
    )
    assert not found.failed and found.elsewhere is not None
    assert [row[0] for row in found.comparison()] == ["RankMe", "labels", "the best elsewhere"]
    assert all(result.n == 30 for result in found.elsewhere.labelled)  # a quarter of 120 letters
