"""What ends in a fresh report: probing a run or its layers, and the demo, the main job on the embedded default."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tacit.runs.cutting import LayerProbe, cut_target
from tacit.runs.finetuning import FineTuned, finetune_target
from tacit.runs.probing import Probed, in_words, probe_run, probe_target
from tacit.runs.regressing import Regressed
from tacit.runs.reporting import report
from tacit.runs.training import Run, train

__all__ = ["Demo", "demo", "finetune", "layers", "probe"]


def probe(
    path: str | Path,
    overrides: Iterable[str] = (),
    *,
    seeds: int = 10,
    protocols: Sequence[str] | None = None,
    factors: Sequence[str] = (),
    head: str | Path | None = None,
) -> Probed | Regressed:
    """Probe a run beside raw pixels and its untrained twin, an export beside raw pixels, or two files of features (test=FILE).

    `protocols` by name, those of papers among them ('dino/linear,cached@1'). `factors`: named factors to probe beside the label, by
    default those of few whole numbers. The results of a run on its own data are kept in its folder,
    one row an item, and its report is written anew. head: a published attentive probe, scored as it is (nothing is kept).
    """
    texts = list(overrides)
    asked: dict[str, Any] = {"protocols": tuple(protocols)} if protocols else {}
    asked |= {"factors": tuple(factors)} if factors else {}
    if texts or head is not None or not (Path(path) / "recipe.yaml").is_file():
        return probe_target(path, texts, seeds=seeds, head=head, **asked)
    probed = probe_run(Path(path), seeds=seeds, **asked)
    report(path)
    return probed


def finetune(path: str | Path, overrides: Iterable[str] = (), **settings: Any) -> FineTuned:
    """Fine-tune an encoder on labels beside the same network from scratch: see `runs.finetuning.finetune_target` for the settings.

    Of a run on its own data the results are kept and its report is written anew.
    """
    texts = list(overrides)
    found = finetune_target(path, texts, **settings)
    if not texts and (Path(path) / "recipe.yaml").is_file():
        report(path)
    return found


def layers(path: str | Path, overrides: Iterable[str] = (), **settings: Any) -> LayerProbe:
    """Probe every layer of encoder and projector and say where to cut: see `runs.cutting.cut_target` for the settings.

    Of a run on its own data, its report is written anew and shows the curves.
    """
    found = cut_target(path, overrides, **settings)
    if found.kept:
        report(path)
    return found


@dataclasses.dataclass(frozen=True)
class Demo:
    """A run with its results."""

    run: Run
    probed: Any

    @property
    def status(self) -> str:
        """How the run ended."""
        return self.run.status

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**self.run.to_plain(), **(self.probed.to_plain() if self.probed else {})}

    def text(self) -> str:
        """For people."""
        if self.probed is None:
            return self.run.text()
        return f"{self.probed.text()}\n\n{in_words(self.probed)}\n\n{self.run.text()}"


def demo(*, root: str | Path = "runs", quiet: bool = False) -> Demo:
    """Train `ssl.vicreg_digits` anew, judge, probe beside raw pixels and the untrained encoder, report."""
    run = train("ssl.vicreg_digits", name="demo", root=root, new=True, quiet=quiet)
    if run.status != "finished":
        return Demo(run, None)
    probed = probe_run(run.folder)
    return Demo(dataclasses.replace(run, report=report(run.folder)), probed)
