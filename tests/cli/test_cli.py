"""The verbs, as a person types them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tacit.cli import main
from tacit.core import parts

TINY = [
    "steps=4", "batch=64", "system.encoder.widths=[8]", "system.projector.widths=[16, 8]", "checks.log_every=2",
    "machine.trackers=[]",
]  # fmt: skip


def say(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def test_lists_name_what_there_is(capsys):
    code, out, _ = say(capsys, "recipes", "list")
    assert code == 0
    assert "ssl.vicreg_digits" in out
    code, out, _ = say(capsys, "parts", "list", "objective", "--json")
    assert {"vicreg", "simclr"} <= {entry["kind"] for entry in json.loads(out)}
    code, out, _ = say(capsys, "data", "list", "--json")
    assert {"digits", "folder", "cifar", "arrays", "parquet"} <= set(json.loads(out))


def test_a_part_is_shown_with_types_bounds_and_defaults(capsys):
    code, out, _ = say(capsys, "parts", "show", "objective.vicreg")
    assert code == 0
    assert "invariance: number >= 0, default 25.0" in out
    code, out, _ = say(capsys, "parts", "show", "encoder.resnet", "--json")
    assert json.loads(out)["settings"]["properties"]["stem"]["enum"] == ["cifar", "solo-learn", "imagenet"]


def test_a_recipe_is_shown_as_yaml_that_reads_back(capsys, tmp_path):
    code, out, _ = say(capsys, "recipes", "show", "ssl.vicreg_digits", "optim.lr=1e-3")
    (tmp_path / "mine.yaml").write_text(out)
    code, diff, _ = say(capsys, "recipes", "diff", "ssl.vicreg_digits", str(tmp_path / "mine.yaml"), "--json")
    assert code == 0
    assert json.loads(diff) == {"optim.lr": [0.005, 0.001]}


def test_the_schema_accepts_the_shipped_recipes(capsys):
    code, out, _ = say(capsys, "schema")
    assert code == 0
    assert json.loads(out)["properties"]["system"] == {"$ref": "#/$defs/system"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["recipes", "show", "ssl.vicrag"], "tacit: no recipe named 'ssl.vicrag'. Did you mean 'ssl.vicreg'? Known: "),
        (["parts", "list", "objectiv"], "tacit: no role named 'objectiv'. Did you mean 'objective'? Known: "),
        (["parts", "show", "vicreg"], "tacit: no part named 'vicreg'. "),
        (["check", "missing.yaml"], "tacit: recipe file missing.yaml does not exist. `tacit recipes show NAME > missing.yaml`"),
        (["train", "ssl.vicreg", "optim.lrr=1"], "tacit: optim.lrr: optimizer 'lars' has no setting 'lrr'. Did you mean 'lr'?"),
        (["train", "ssl.vicreg", "--with", "no_lab"], "tacit: --with no_lab: no such module on the import path."),
        (["judge", "nowhere"], "tacit: nowhere: there is no such folder to load from"),
        (["data", "inspect", "nowhere"], "tacit: "),
        (["launch", "--", "demo"], "tacit: tacit launch: choose one of --slurm (the cluster) and --local"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_one_sentence_and_exit_code_2(capsys, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    code, out, err = say(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(sentence)
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_faults_come_as_json_too(capsys):
    code, out, _ = say(capsys, "recipes", "show", "ssl.vicreg", "steps=0", "--json")
    assert code == 2
    assert json.loads(out) == {"error": "steps: input should be greater than 0, found 0"}


def test_train_probe_and_report_by_hand(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = say(capsys, "train", "ssl.vicreg_digits", *TINY, "--name", "mine")
    assert code == 0
    (folder,) = (tmp_path / "runs" / "mine").iterdir()
    assert f'tacit.load("runs/mine/{folder.name}/export/encoder")' in out
    assert "rankme" in (folder / "report" / "index.html").read_text()
    code, out, _ = say(capsys, "probe", str(folder), "--seeds", "2", "--json")
    assert code == 0
    assert {row["model"] for row in json.loads(out)["results"]} == {"trained", "untrained", "raw pixels"}
    code, out, _ = say(capsys, "report", str(folder))
    assert (code, Path(out.strip())) == (0, folder / "report" / "index.html")


def test_a_part_of_yours_trains_by_with(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(parts, "_imported", dict(parts._imported))
    (tmp_path / "lab_parts.py").write_text(
        "from torch import nn\nfrom tacit import part\nfrom tacit.core.ranks import ALONE\n"
        '@part("objective", "lab-pull")\nclass Pull(nn.Module):\n    "Pull two views together."\n    ranks_kind = "per-sample"\n'
        "    def __init__(self, *, weight: float = 1.0) -> None:\n        super().__init__()\n        self.weight = weight\n"
        "    def forward(self, a, b, ranks=ALONE):\n        return {'loss': self.weight * (a - b).square().mean()}\n"
    )
    words = [
        "ssl.vicreg_digits",
        *TINY,
        "system.objective=lab-pull",
        "system.objective.weight=2",
        "--with",
        "lab_parts",
    ]
    code, out, _ = say(capsys, "train", *words, "--json")
    assert code == 0
    folder = Path(json.loads(out)["folder"])
    assert "kind: lab-pull" in (folder / "recipe.yaml").read_text()
    code, _, err = say(capsys, "check", "ssl.vicreg_digits", "system.objective=lab-pul", "--with", "lab_parts")
    assert code == 2
    assert "no objective named 'lab-pul'. Did you mean 'lab-pull'?" in err


def test_doctor_and_inspect(capsys):
    code, out, _ = say(capsys, "doctor", "--json")
    assert code == 0
    assert json.loads(out)["tacit"]
    code, out, _ = say(capsys, "data", "inspect", "digits")
    assert code == 0
    assert "train: 1438 samples, 10 classes" in out


def command(*arguments: str, cwd: Path, **more) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "tacit", *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, **more,
    )  # fmt: skip


def test_help_imports_no_torch(tmp_path):
    code = "import sys; from tacit.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize("devices", ["1", "2"])
def test_sigterm_saves_and_the_same_command_continues(tmp_path, devices):
    long = ["train", "ssl.vicreg_digits", *TINY, "steps=200000", "checks.judge_every=0", "--devices", devices]
    run = command(*long, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/*/metrics.parquet")) and time.monotonic() < deadline:
        time.sleep(0.2)
    run.send_signal(signal.SIGTERM)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 130, err
    assert "everything is saved in" in out
    (state_file,) = tmp_path.glob("runs/*/*/state.json")
    state = json.loads(state_file.read_text())
    assert state["status"] == "stopped"
    again = command(*long, cwd=tmp_path)
    while json.loads(state_file.read_text())["status"] != "running" and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(0.5)
    again.send_signal(signal.SIGINT)
    again.communicate(timeout=60)
    assert again.returncode == 130
    later = json.loads(state_file.read_text())
    assert (later["status"], later["step"] > state["step"]) == ("stopped", True)


@pytest.mark.slow
def test_two_processes_train_one_run(tmp_path):
    one = command("train", "ssl.vicreg_digits", *TINY, "--name", "one", "--json", cwd=tmp_path)
    _, err = one.communicate(timeout=200)
    assert one.returncode == 0, err
    for sharding in ("ddp", "fsdp"):
        name = f"two-{sharding}"
        two = command(
            "train",
            "ssl.vicreg_digits",
            *TINY,
            f"machine.sharding={sharding}",
            "--devices",
            "2",
            "--name",
            name,
            "--json",
            cwd=tmp_path,
        )
        _, err = two.communicate(timeout=200)
        assert two.returncode == 0, err
        from tacit.training.metrics import read_metrics

        (a,), (b,) = (list((tmp_path / "runs" / n).iterdir()) for n in ("one", name))
        first, second = read_metrics(a)["loss"][1], read_metrics(b)["loss"][1]
        assert first == pytest.approx(second, rel=1e-3)  # float32 sums in another order
        assert (b / "export" / "encoder" / "model.safetensors").is_file()


@pytest.mark.slow
def test_a_verb_as_a_local_job(tmp_path):
    words = ["train", "ssl.vicreg_digits", *TINY, "--root", str(tmp_path / "runs")]
    queued = command("launch", "--local", "--cpus", "1", "--minutes", "5", "--json", "--", *words, cwd=tmp_path)
    out, err = queued.communicate(timeout=100)
    assert queued.returncode == 0, err
    found = json.loads(out)
    deadline = time.monotonic() + 200
    done = tmp_path / "runs" / "ssl.vicreg_digits"
    while not list(done.glob("*/report/index.html")) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert list(done.glob("*/report/index.html")), Path(found["log"]).read_text()
