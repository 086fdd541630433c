"""Pictures decoded while a run goes on: the order is shuffled, resumes bit for bit, and a file that vanishes in the middle of an epoch
stops the run in one sentence or is replaced, counted and named."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from tacit import recipes
from tacit.core.errors import RunError
from tacit.runs.build import build
from tacit.training.feed import Plan
from tacit.training.loop import fit
from tacit.training.metrics import read_metrics

COUNT, BATCH = 24, 8
TINY = (
    "data.channels=3", "data.memory=0", "steps=9", f"batch={BATCH}", "system.encoder.widths=[4, 8]", "system.projector.widths=[8, 8]",
    "views.first.size=8", "checks.log_every=1", "checks.judge_every=0", "checks.save_every=0", "machine.trackers=[]", "machine.device=cpu",
)  # fmt: skip


def png(seed: int) -> bytes:
    values = np.random.default_rng(seed).integers(0, 256, (9, 10 + seed % 3, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, format="png")
    return file.getvalue()


def folder(root):
    for i in range(COUNT):
        place = root / f"class{i % 2}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i:03}.png").write_bytes(png(i))


def tar(root):
    root.mkdir(parents=True)
    for shard in range(3):
        with tarfile.open(root / f"set-train-{shard:06}.tar", "w") as archive:
            for i in range(8 * shard, 8 * shard + 8):
                for name, content in ((f"{i:03}.png", png(i)), (f"{i:03}.cls", b"%d" % (i % 2))):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))


def hf_disk(root):
    root.mkdir(parents=True)
    kind, names = pa.struct([("bytes", pa.binary()), ("path", pa.string())]), []
    for part in range(2):
        cells = pa.array([{"bytes": png(i), "path": None} for i in range(12 * part, 12 * part + 12)], kind)
        table = pa.table({"image": cells})
        names.append({"filename": f"data-{part:05}-of-00002.arrow"})
        with pa.OSFile(str(root / names[-1]["filename"]), "wb") as out, pa.ipc.new_stream(out, table.schema) as writer:
            writer.write_table(table)
    (root / "state.json").write_text(json.dumps({"_data_files": names, "_split": "train"}))
    (root / "dataset_info.json").write_text(json.dumps({"features": {"image": {"_type": "Image"}}}))


class After:
    """A hook that does something once, after a step."""

    def __init__(self, step: int, act) -> None:
        self.step, self.act = step, act

    def __call__(self, step, terms, context) -> None:
        if step == self.step:
            self.act()

    def close(self, status: str) -> None: ...


def run(root, out, *hooks, **data):
    recipe = recipes.load(
        "ssl.dcl_digits",
        [f"data={data.pop('kind')}", f"data.path={root}", *TINY, *(f"data.{k}={v}" for k, v in data.items())],
    )
    built = build(recipe)
    return recipe, built, fit(recipe, built.system, built.source, built.views, out, hooks=hooks)


def stop():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(("kind", "make"), [("folder", folder), ("tar", tar), ("hf-disk", hf_disk)])
def test_a_stream_is_shuffled_over_all_shards_and_resumes_bit_for_bit(tmp_path, kind, make):
    make(tmp_path / "data")
    _, whole, _ = run(tmp_path / "data", tmp_path / "whole", kind=kind)
    assert not whole.source.fits_in_memory()
    _, _, first = run(
        tmp_path / "data", tmp_path / "cut", After(4, stop), kind=kind
    )  # in the middle of the second epoch
    recipe, cut, second = run(tmp_path / "data", tmp_path / "cut", kind=kind)
    assert (first.status, first.step, second.status) == ("stopped", 4, "finished")
    for name, value in whole.system.state_dict().items():
        assert torch.equal(value, cut.system.state_dict()[name]), name
    np.testing.assert_array_equal(*(read_metrics(tmp_path / out)["loss"][1] for out in ("whole", "cut")))
    plan = Plan(COUNT, seed=recipe.seed, batch=BATCH)
    epochs = [np.concatenate([plan.indices(3 * epoch + i) for i in range(3)]) for epoch in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(COUNT))
    assert len({int(i) // 8 for i in plan.indices(0)}) > 1  # a batch holds samples of several shards
    assert not np.array_equal(*epochs)


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_a_file_that_vanishes_in_the_middle_of_an_epoch_stops_the_run_or_is_counted_and_named(tmp_path, policy):
    folder(tmp_path / "data")
    files = sorted((tmp_path / "data").rglob("*.png"))
    plan = Plan(COUNT, seed=0, batch=BATCH)
    lost = int(plan.indices(0)[0])  # read in the first step, gone after it, asked for again in the second epoch
    hook = After(1, files[lost].unlink)
    if policy == "stop":
        with pytest.raises(RunError) as caught:
            run(tmp_path / "data", tmp_path / "run", hook, kind="folder", unreadable=policy)
        step = next(s for s in range(3, 6) if lost in plan.indices(s)) + 1
        assert str(caught.value) == (
            f"the data of step {step} could not be read: {files[lost]} cannot be read: it was there when the set was opened and is gone "
            f"now. List all such samples with 'tacit data verify {tmp_path / 'data'}', or let neighbours stand in for them: "
            "unreadable: skip"
        )
        return
    _, built, found = run(tmp_path / "data", tmp_path / "run", hook, kind="folder", unreadable=policy)
    assert found.status == "finished"
    assert read_metrics(tmp_path / "run")["unreadable"][1].tolist() == [1.0]
    assert (
        f"1 of 24 samples could not be read, others stood in for them: {files[lost]}\n"
        in (tmp_path / "run" / "log.txt").read_text()
    )
    assert list(built.source.skipped) == [lost]


def test_a_shard_that_vanishes_is_named(tmp_path):
    tar(tmp_path / "data")
    shard = tmp_path / "data" / "set-train-000001.tar"
    with pytest.raises(
        RunError, match=rf"^the data of step \d could not be read: {shard} 0\d\d\.png cannot be read: it was there when"
    ):
        run(tmp_path / "data", tmp_path / "run", After(1, shard.unlink), kind="tar")
