"""A report on scikit-learn's digits with made-up measurements: what the demo's looks like, without training anything."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tacit.core.values import Score
from tacit.reports import (
    Card,
    Code,
    Curves,
    Difference,
    LowShot,
    Map,
    Neighbours,
    Pairs,
    Report,
    Result,
    Scores,
    Spectrum,
    Table,
    verdict,
)

RECIPE = "\n".join(["system:", "  kind: joint-embedding", *(f"  setting_{i}: {i}" for i in range(40))])


def result(model: str, protocol: str, value: float, half: float, **more) -> Result:
    return Result(
        model=model, protocol=protocol, value=value, low=value - half, high=value + half, n=450, chance=0.1, **more
    )


@pytest.fixture(scope="session")
def report() -> Report:
    return digits_report()


@pytest.fixture(scope="session")
def page(report: Report) -> str:
    return report.html()


def digits_report() -> Report:
    rng = np.random.default_rng(0)
    digits = load_digits()
    images = np.round(digits.images[:, None] / 16 * 255).astype(np.uint8)
    rows = [
        result("learned", "linear@1, 5 labels a class", 0.912, 0.011, seeds=5,
               differences=(Difference("raw pixels", 0.109, 0.092, 0.125), Difference("untrained", 0.211, 0.187, 0.235))),
        result("untrained", "linear@1, 5 labels a class", 0.701, 0.019, seeds=5),
        result("raw pixels", "linear@1, 5 labels a class", 0.803, 0.014, seeds=5),
        result("learned", "linear@1, all labels", 0.971, 0.013,
               differences=(Difference("raw pixels", 0.006, -0.008, 0.021), Difference("untrained", 0.036, 0.015, 0.058))),
        result("untrained", "linear@1, all labels", 0.935, 0.019),
        result("raw pixels", "linear@1, all labels", 0.965, 0.014),
        result("learned", "knn@1, k = 20", 0.962, 0.016, differences=(Difference("raw pixels", -0.004, -0.02, 0.011),)),
        result("raw pixels", "knn@1, k = 20", 0.966, 0.015),
    ]  # fmt: skip
    table = Table(rows, intervals="95 % (t over seeds; Wilson where one seed ran)",
                  lead="Probes on frozen features, beside an untrained encoder and the pixels.")  # fmt: skip
    steps = np.arange(0, 4000, 4)
    fall = np.exp(-steps / 900)
    curves = {
        "loss": (steps, 12 + 25 * fall + rng.normal(0, 0.7, len(steps))),
        "invariance": (steps, 4 + 9 * fall + rng.normal(0, 0.3, len(steps))),
        "variance": (steps, 6 + 12 * fall + rng.normal(0, 0.3, len(steps))),
        "covariance": (steps, 2 + 4 * fall * (1 - fall) + rng.normal(0, 0.2, len(steps))),
        "RankMe": (steps[::50], np.where(np.arange(20) == 12, np.nan, 11 + 40 * (1 - fall[::50]))),
        "learning rate": (steps, 0.05 * np.minimum(1, steps / 400) * (1 + np.cos(np.pi * steps / 4000)) / 2),
    }
    low_shot = [
        (shots, result(model, f"linear@1, {shots} labels a class", top - gap / shots**0.7, 0.05 / shots**0.5, seeds=5))
        for model, top, gap in (("learned", 0.965, 0.2), ("untrained", 0.92, 0.52), ("raw pixels", 0.95, 0.4))
        for shots in (1, 2, 5, 10, 50)
    ]
    centred = digits.data - digits.data.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    points = (u[:, :2] * s[:2]) + digits.target[:, None] * np.array([[1.1, -0.6]])
    distance = ((digits.data[:8, None] - digits.data[None]) ** 2).sum(-1)
    near = distance.argsort(1)[:, 1:7]
    near[3, 4], near[5, 5] = 20, 33
    views = {
        v: np.clip(np.roll(images[:12] / 255, (i, -i), (2, 3)) * rng.uniform(0.5, 1.2, (12, 1, 1, 1)), 0, 1).astype(
            np.float32
        )
        for i, v in ((1, "a"), (-1, "b"))
    }
    names = {
        "learned": "the learned features",
        "raw pixels": "raw pixels",
        "untrained": "the features of the untrained encoder",
    }
    scores = {
        "learned": [
            Score(43.2, 1797, "rankme@1"),
            Score(0.81, 1797, "collapse@1", "no feature is constant"),
            Score(21.7, 1797, "participation@1"),
        ],
        "untrained": [
            Score(8.1, 1797, "rankme@1"),
            Score(0.12, 1797, "collapse@1", "no feature is constant"),
            Score(2.96, 1797, "participation@1"),
        ],
    }
    return Report(
        title="VICReg on handwritten digits",
        verdict=verdict(table, model="learned", opening="With 5 labels a class, a linear probe", names=names),
        meta={"run": "demo/0001", "recipe": "3f8a0c1d22e9", "steps": "4000", "images": "1797 of 8 × 8 pixels"},
        sections=[
            table,
            LowShot(low_shot, lead="Accuracy of a linear probe against the number of labels per class it was shown."),
            Scores(scores, lead="What the embedding looks like to someone who has no labels. Higher ranks use more directions."),
            Spectrum({"learned": s[:60], "untrained": s[:60] * np.exp(-np.arange(60) / 6)}),
            Map(points, labels=digits.target, classes=digits.target_names.astype(str).tolist(),
                method="First two principal components of the learned features."),
            Neighbours(images[:8], images[near], labels=digits.target[:8], neighbour_labels=digits.target[near],
                       classes=[f"{i}" for i in range(10)], lead="By cosine similarity of the learned features."),
            Pairs(images[:12], views, captions=[f"digit {t}" for t in digits.target[:12]]),
            Curves(curves),
            Code(RECIPE, title="The resolved recipe", summary="Show the recipe"),
            Card({"device": "cpu, 2 threads", "torch": "2.14", "numpy": "2.4", "python": "3.12", "tacit": "0.1.0", "precision": "fp32"}),
            Code("tacit train recipe.yaml seed=0\ntacit report runs/demo/0001", title="How to make it again", open=True),
        ],
    )  # fmt: skip
