"""What ends in a fresh report: probing a run, and the demo, the main job on the embedded default."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tacit.runs.probing import Probed, in_words, probe_run, probe_target
from tacit.runs.reporting import report
from tacit.runs.training import Run, train

__all__ = ["Demo", "demo", "probe"]


def probe(path: str | Path, overrides: Iterable[str] = (), *, seeds: int = 10) -> Probed:
    """Probe a run beside raw pixels and its untrained twin, an export beside raw pixels, or two files of features (test=FILE).

    The results of a run on its own data are kept in its folder, one row an item, and its report is written anew.
    """
    texts = list(overrides)
    if texts or not (Path(path) / "recipe.yaml").is_file():
        return probe_target(path, texts, seeds=seeds)
    probed = probe_run(Path(path), seeds=seeds)
    report(path)
    return probed


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
