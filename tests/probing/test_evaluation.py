"""Evaluation: the same labels for every model, one record per item, and summaries that carry their card."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from tacit.core.errors import DataError, UnknownNameError
from tacit.core.values import Record
from tacit.ops.intervals import t_interval, wilson
from tacit.probing import Protocol, Records, evaluate, knn, low_shot, protocol, read_records, summary, write_records
from tacit.probing.subsets import folds


@pytest.fixture
def data():
    rng = torch.Generator().manual_seed(0)
    y = {"train": torch.arange(60) % 3, "test": torch.arange(30) % 3}
    good = {s: 2 * torch.eye(3)[t] + torch.randn(len(t), 3, generator=rng) for s, t in y.items()}
    bad = {s: torch.randn(len(t), 5, generator=rng) for s, t in y.items()}
    ids = {"train": torch.arange(60) + 1000, "test": torch.arange(30) + 5000}
    return {"good": good, "bad": bad}, y, ids


NAMES = [
    "knn/k=20,t=0.07@1",
    "linear/all@1",
    "knn/k=1,t=0.07,5-per-class@1",
    "ridge/5-per-class@1",
    "linear/1-per-class@1",
]


def test_one_record_per_item_protocol_seed_and_model(data):
    found = evaluate(*data, protocols=NAMES, seeds=3, run="r", benchmark="toy/test@2")
    assert len(found) == 2 * 30 * (1 + 1 + 3 + 3 + 3)
    cells = found.groups("model", "protocol", "seed")
    assert list(cells) == [
        (m, name, s) for m in ("good", "bad") for name in NAMES for s in range(3 if "per-class" in name else 1)
    ]
    assert all(part.column("item").to_pylist() == [str(i) for i in range(5000, 5030)] for part in cells.values())
    first = found[0]
    assert isinstance(first, Record)
    assert (first.run, first.model, first.benchmark, first.group) == ("r", "good", "toy/test@2", "")
    assert all(r.correct == (r.prediction == r.answer) and 0 <= r.score <= 1.5 for r in found[:60])


def test_predictions_are_those_of_the_probe_on_the_drawn_labels(data):
    features, y, ids = data
    found = evaluate(*data, protocols=NAMES[:3], seeds=2)
    expected = knn(features["good"]["train"], y["train"], features["good"]["test"], k=20)[20]
    part = found.only(model="good", protocol=NAMES[0])
    assert part.column("prediction").to_pylist() == [str(c) for c in expected.prediction.tolist()]
    chosen = low_shot(y["train"], ids["train"], 5, seed=1)
    few = knn(features["bad"]["train"][chosen], y["train"][chosen], features["bad"]["test"], k=1)[1]
    part = found.only(model="bad", protocol=NAMES[2], seed=1)
    assert part.column("prediction").to_pylist() == [str(c) for c in few.prediction.tolist()]


def test_the_drawn_labels_are_a_function_of_seed_and_ids_alone(data):
    _, y, ids = data
    label, name = y["train"].numpy(), ids["train"].numpy()
    chosen = low_shot(label, name, 4, seed=7)
    assert np.bincount(label[chosen]).tolist() == [4, 4, 4]
    mixed = np.random.default_rng(0).permutation(60)
    again = low_shot(label[mixed], name[mixed], 4, seed=7)
    assert name[mixed][again].tolist() == name[chosen].tolist()
    assert set(chosen) < set(low_shot(label, name, 9, seed=7))
    assert set(chosen) != set(low_shot(label, name, 4, seed=8))


def test_over_many_seeds_every_sample_is_drawn_alike():
    counts = np.zeros(40)
    for seed in range(400):
        counts[low_shot(np.arange(40) % 2, None, 5, seed)] += 1
    assert abs(counts - 100).max() < 5 * (400 * 0.25 * 0.75) ** 0.5


def test_folds_hold_out_every_sample_once_and_no_class_as_a_whole():
    label = np.r_[np.zeros(23, int), np.ones(2, int), np.full(7, 3)]
    part = folds(label, None)
    assert sorted(np.bincount(part[label == 0])) == [4, 4, 5, 5, 5]
    assert sorted(part[label == 1]) == [0, 1]
    assert all((part[label == c] != fold).any() for c in (0, 1, 3) for fold in range(5))
    once = folds(label, None, rounds=1)
    assert (once == 0).sum() == (part == 0).sum()
    assert folds(np.array([0, 0, 1]), None) is None


def test_summary_carries_interval_seeds_chance_and_paired_difference(data):
    found = evaluate(*data, protocols=NAMES[:3], seeds=4)
    rows = {(row.model, row.protocol): row for row in summary(found, baseline="bad")}
    one = rows["good", NAMES[0]]
    right = int(np.sum(found.only(model="good", protocol=NAMES[0]).column("correct").to_pylist()))
    assert (one.accuracy, one.low, one.high) == wilson(right, 30)
    assert (one.n, one.seeds, one.chance, one.baseline) == (30, 1, 10 / 30, "bad")
    few = rows["good", NAMES[2]]
    shares = [
        np.mean(found.only(model="good", protocol=NAMES[2], seed=s).column("correct").to_pylist()) for s in range(4)
    ]
    assert (few.accuracy, few.low, few.high) == pytest.approx(t_interval(shares))
    assert few.seeds == 4
    assert few.difference.value == pytest.approx(few.accuracy - rows["bad", NAMES[2]].accuracy)
    assert one.difference.low > 0
    assert rows["bad", NAMES[0]].difference is None


def test_a_model_does_not_differ_from_itself_under_another_name(data):
    features, y, ids = data
    rows = summary(
        evaluate({"a": features["good"], "b": features["good"]}, y, ids, protocols=NAMES, seeds=2), baseline="a"
    )
    assert {tuple(row.difference) for row in rows if row.model == "b"} == {(0.0, 0.0, 0.0)}


@pytest.mark.parametrize("name", [*NAMES, "sgd/all@1", "knn/k=5,t=inf@1", "knn/k=10,t=0.1,2-per-class@1"])
def test_protocol_names_read_back(name):
    assert protocol(name).name == name
    assert protocol(name.partition("@")[0]) == protocol(name) == protocol(protocol(name))
    assert len(protocol(name).text) > 40


def test_unknown_and_old_protocols_are_refused():
    for name in ("knn/k=0,t=0.07@1", "linear/every@1", "knn/k=5,t=0@1", "mlp/all@1", "linear"):
        with pytest.raises(UnknownNameError, match=r"^no protocol named .*Known forms: knn/k=20,t=0.07@1, "):
            protocol(name)
    with pytest.raises(UnknownNameError) as error:
        protocol("linear/all@9")
    assert str(error.value) == "protocol 'linear/all@9' asks for version 9, this is version 1: use 'linear/all@1'"
    assert Protocol("knn", None, 5, 0.5).name == "knn/k=5,t=0.5@1"


def rows_of(n, **fields):
    given = {"run": "r", "model": "m", "benchmark": "toy/test@2", "protocol": "knn/k=20,t=0.07@1", **fields}
    return [
        Record(item=str(i), prediction=str(i % 7), answer="3", score=i / n, correct=i % 2 == 0, **given)
        for i in range(n)
    ]


def test_records_are_written_per_protocol_and_read_back_equal(tmp_path):
    rows = [*rows_of(5), *rows_of(3, protocol="linear/all@1"), *rows_of(2, benchmark="other", group="g", seed=4)]
    files = write_records(tmp_path, rows)
    assert [str(f.relative_to(tmp_path)) for f in files] == [
        "results/toy-test@2/knn-k=20,t=0.07@1.parquet",
        "results/toy-test@2/linear-all@1.parquet",
        "results/other@1/knn-k=20,t=0.07@1.parquet",
    ]
    assert not list(tmp_path.rglob(".*"))
    assert read_records(files[0]) == rows[:5]
    assert sorted(read_records(tmp_path), key=repr) == sorted(rows, key=repr)
    write_records(tmp_path, rows[:2])
    assert read_records(files[0]) == rows[:2]


def test_records_behave_like_a_list():
    rows = rows_of(6)
    held = Records(rows)
    assert held == rows
    assert held[-1] == rows[-1]
    assert held[1:5:2] == rows[1:5:2]
    assert held + rows == rows + rows
    assert rows_of(1, seed=2) != Records(rows_of(1, seed=3))
    with pytest.raises(IndexError):
        held[6]
    assert Records([Record(run="r", model="m", benchmark="b", protocol="p", item="0")])[0].correct is None
    assert len(Records()) == len(Records.joined([])) == 0


def test_a_hundred_thousand_rows_take_less_than_a_second(tmp_path):
    rows = rows_of(100_000)
    start = time.process_time()
    write_records(tmp_path, rows)
    assert time.process_time() - start < 1
    start = time.process_time()
    assert len(read_records(tmp_path)) == 100_000
    assert time.process_time() - start < 1


def test_files_that_are_no_results_are_refused(tmp_path):
    with pytest.raises(DataError) as error:
        read_records(tmp_path)
    assert str(error.value) == (
        f"no results at {tmp_path}: expected a Parquet file, or a run folder with results/<benchmark>/<protocol>.parquet"
    )
    broken = tmp_path / "x.parquet"
    broken.write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match=r"x\.parquet is no table of results \(.*\): remove it and evaluate again"):
        read_records(broken)


def test_two_protocols_may_not_share_a_file(tmp_path):
    rows = rows_of(1, protocol="a/b") + rows_of(1, protocol="a:b")
    with pytest.raises(DataError, match=r"would share the file .*a-b\.parquet: rename one of them"):
        write_records(tmp_path, rows)


Z = {"train": torch.eye(4), "test": torch.eye(4)}
Y = {"train": torch.tensor([0, 0, 1, 1]), "test": torch.tensor([0, 1, 0, 1])}


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: evaluate({"m": Z}, {"train": Y["train"]}),
            "test labels are missing: a probe needs one class label per sample; judge needs none",
        ),
        (
            lambda: evaluate({"m": Z}, {"train": Y["train"] * 0, "test": Y["test"] * 0}),
            "train labels hold the one class 0: a probe needs at least two to tell apart",
        ),
        (
            lambda: evaluate({"m": Z}, {"train": Y["train"], "test": Y["test"] + 1}),
            "test labels hold 1 classes that train lacks (2): no probe can name them; use splits of one label set",
        ),
        (
            lambda: evaluate({"m": {**Z, "test": Z["test"] * torch.nan}}, Y),
            "m: test features hold NaN or infinite values in 4 of 4 rows, first in row 0: "
            "the model diverged or its input was not finite",
        ),
        (
            lambda: evaluate({"m": {**Z, "train": Z["train"][:3]}}, Y),
            "m: train has 3 features but 4 labels: they must describe the same samples",
        ),
        (lambda: evaluate({"m": {"train": Z["train"]}}, Y), "model 'm' has no test features: give 'train' and 'test'"),
        (lambda: evaluate({}, Y), "evaluate needs the features of at least one model, found none"),
        (lambda: evaluate({"m": Z}, Y, seeds=0), "evaluate needs at least one seed, found 0"),
        (
            lambda: evaluate({"m": Z}, Y, protocols=["linear/3-per-class"]),
            "3 labels per class were asked for, but 2 classes have fewer, the first is class 0 with 2: "
            "ask for fewer, or leave those classes out",
        ),
        (
            lambda: evaluate({"m": Z}, Y, {"train": [1, 1, 2, 3], "test": [1, 2, 3, 4]}),
            "train ids must differ, found 1 that occur again: give each sample its own",
        ),
        (
            lambda: evaluate({"m": Z}, Y, {"train": [1, 2, 3], "test": [1, 2, 3, 4]}),
            "train ids must be whole numbers [4], one per sample, found int64 [3]",
        ),
        (lambda: summary([]), "a summary needs records, found none"),
        (
            lambda: summary([Record(run="", model="m", benchmark="b", protocol="p", item="0")]),
            "1 records do not say whether they are correct: they have no accuracy",
        ),
        (
            lambda: summary(rows_of(2) + rows_of(2)),
            "every item must have one record per seed: some are missing or occur twice",
        ),
        (
            lambda: summary(rows_of(3) + rows_of(2, model="other"), baseline="other"),
            "toy/test@2 knn/k=20,t=0.07@1: 'm' and 'other' have different items or seeds: evaluate both on one test set",
        ),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(DataError) as error:
        call()
    assert str(error.value) == sentence


def test_an_unknown_baseline_answers_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"^no model named 'mm'. Did you mean 'm'\?"):
        summary(rows_of(2), baseline="mm")
