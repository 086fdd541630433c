"""Laws of the engine: each job once, kept over restarts, no job takes the others with it; on every engine alike."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
import warnings

import pytest

from tacit.core.errors import MissingExtraError, RunError
from tacit.training.engine import Job, run_jobs, summary


def make_square():
    """Made inside a function, so that it travels to the workers by value: they cannot import this file."""

    def square(x, calls=None):
        import os
        import signal
        import time

        if calls is not None:
            with open(calls, "a") as file:
                file.write(f"{x}\n")
        if x == 13:
            raise ValueError("thirteen\nis unlucky")
        if x == 99:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)
        return x * x

    return square


SQUARE = make_square()


def jobs_of(numbers, **more):
    return [Job(f"n{x}", {"x": x, **more}) for x in numbers]


@pytest.fixture(scope="module")
def dask_engine():
    """A real cluster: a scheduler and two worker processes that talk over tcp on the loopback."""
    distributed = pytest.importorskip("distributed")
    dask = pytest.importorskip("dask")
    with dask.config.set(
        {"distributed.scheduler.allowed-failures": 1, "distributed.admin.system-monitor.interval": "1s"}
    ):
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1", silence_logs=50
        )
    yield cluster.scheduler_address.replace("tcp://", "dask://")
    cluster.close()


@pytest.fixture(params=["serial", "local:2", "dask"])
def engine(request):
    return request.getfixturevalue("dask_engine") if request.param == "dask" else request.param


def test_every_engine_gives_the_same_values_once_and_keeps_them(engine, tmp_path):
    calls = tmp_path / "calls"
    jobs = jobs_of(range(6), calls=str(calls))
    seen = []
    first = run_jobs(
        SQUARE, jobs, engine=engine, folder=tmp_path / "out", progress=lambda i, n, o: seen.append((i, n, o.name))
    )
    assert [(o.name, o.state, o.value) for o in first] == [(f"n{x}", "done", x * x) for x in range(6)]
    assert [s[:2] for s in seen] == [(i, 6) for i in range(1, 7)] and {s[2] for s in seen} == {j.name for j in jobs}
    again = run_jobs(SQUARE, jobs, engine=engine, folder=tmp_path / "out")
    assert [(o.state, o.value) for o in again] == [("kept", x * x) for x in range(6)]
    assert sorted(calls.read_text().split()) == [str(x) for x in range(6)]  # each ran once over both starts
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"n{x}.json" for x in range(6)]


def test_a_failing_job_is_told_in_one_sentence_and_runs_again_next_time(engine, tmp_path):
    outcomes = run_jobs(SQUARE, jobs_of([2, 13, 3]), engine=engine, folder=tmp_path)
    assert [o.state for o in outcomes] == ["done", "failed", "done"]
    log = tmp_path / "n13.log"
    assert outcomes[1].error == f"job 'n13' failed: ValueError: thirteen is unlucky (traceback in {log})"
    assert 'raise ValueError("thirteen' in log.read_text() or "in square" in log.read_text()
    assert summary(outcomes) == f"3 jobs: 2 done, 1 failed\n{outcomes[1].error}"
    mended = [Job("n2", {"x": 2}), Job("n13", {"x": 12}), Job("n3", {"x": 3})]
    assert [o.state for o in run_jobs(SQUARE, mended, engine=engine, folder=tmp_path)] == ["kept", "done", "kept"]
    assert not log.exists()


@pytest.mark.parametrize("kind", ["local:1", "local:2", "dask"])
def test_a_killed_process_is_named_and_takes_no_neighbour_with_it(kind, tmp_path, request):
    engine = request.getfixturevalue("dask_engine") if kind == "dask" else kind
    with warnings.catch_warnings():
        # Dask says that it replaces the worker; joblib that the pool lost one: both are what this test is about.
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given to the executor")
        outcomes = run_jobs(SQUARE, jobs_of([1, 99, 2, 3, 4, 5]), engine=engine, folder=tmp_path)
    assert [o.state for o in outcomes] == ["done", "killed", "done", "done", "done", "done"]
    assert outcomes[1].error == (
        "job 'n99' took its worker process down (out of memory, or a crash in compiled code): "
        "give it more memory or fewer neighbours, then start again"
    )
    assert not list(tmp_path.glob("*.running"))


def test_a_function_that_no_worker_can_load_is_said_so(tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def one():\n    return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here

    sys.path.remove(str(tmp_path))  # processes that start from now on look where this one looks
    (tmp_path / "only_here.py").unlink()
    with pytest.raises(
        RunError, match="the worker processes die before they begin a job: A task has failed to un-serialize"
    ):
        run_jobs(only_here.one, [Job("a")], engine="local:1", folder=tmp_path / "out")


def test_changed_arguments_or_another_function_run_again(tmp_path):
    def cube(x):
        return x**3

    run_jobs(SQUARE, [Job("a", {"x": 2})], engine="serial", folder=tmp_path)
    assert run_jobs(SQUARE, [Job("a", {"x": 3})], engine="serial", folder=tmp_path)[0].value == 9
    assert run_jobs(cube, [Job("a", {"x": 3})], engine="serial", folder=tmp_path)[0].value == 27
    assert run_jobs(cube, [Job("a", {"x": 3})], engine="serial", folder=tmp_path)[0].state == "kept"


def test_local_workers_share_the_cores_as_threads(tmp_path):
    import joblib

    def threads(i):
        import os

        return int(os.environ["OMP_NUM_THREADS"])

    jobs = [Job(f"t{i}", {"i": i}) for i in range(2)]
    outcomes = run_jobs(threads, jobs, engine="local:2", folder=tmp_path)
    assert [o.value for o in outcomes] == [max(1, joblib.cpu_count() // 2)] * 2


def test_an_interrupt_stops_the_workers_and_keeps_what_is_done(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, time\n"
        "from tacit.training.engine import Job, run_jobs\n"
        "def sleep(seconds):\n"
        "    time.sleep(seconds)\n"
        "    return seconds\n"
        "jobs = [Job('quick', {'seconds': 0}), Job('slow1', {'seconds': 60}), Job('slow2', {'seconds': 60})]\n"
        "run_jobs(sleep, jobs, engine='local:2', folder=sys.argv[1], progress=lambda *_: print('one', flush=True))\n"
    )
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, str(script), str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "one\n"
        marks = [out / f"slow{i}.running" for i in (1, 2)]
        deadline = time.monotonic() + 20
        while not all(mark.exists() and mark.read_text() for mark in marks) and time.monotonic() < deadline:
            time.sleep(0.05)  # a mark is there a moment before its number is in it
        workers = [int(mark.read_text()) for mark in marks]
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert time.monotonic() - start < 20 and "KeyboardInterrupt" in errors
    assert json.loads((out / "quick.json").read_text())["value"] == 0
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in workers)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("text", ["local:0", "local:two", "threads", "dask", "dask://host", "ray:2", ""])
def test_an_unknown_engine_is_refused_with_examples(text, tmp_path):
    with pytest.raises(RunError) as caught:
        run_jobs(SQUARE, [], engine=text, folder=tmp_path)
    assert str(caught.value) == (
        f"engine {text!r} is none that jobs can run on: write 'serial', 'local' (one process a core), 'local:2', "
        "'dask://127.0.0.1:8786' or 'ray'"
    )


@pytest.mark.parametrize(
    ("jobs", "sentence"),
    [
        ([Job("a"), Job("a")], "jobs: 'a' names more than one job: every job needs a name of its own"),
        ([Job("../a")], "job name '../a' cannot be a file name: use letters, digits and _ . = + @ -"),
        (
            [Job("a", {"x": {1, 2}})],
            "job 'a': arguments must be what JSON can hold; Object of type set is not JSON serializable",
        ),
    ],
)
def test_jobs_that_cannot_be_kept_are_refused(jobs, sentence, tmp_path):
    with pytest.raises(RunError) as caught:
        run_jobs(SQUARE, jobs, engine="serial", folder=tmp_path)
    assert str(caught.value) == sentence


def test_a_function_with_hidden_arguments_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"jobs call a function made by def, found partial: .* pass it as arguments"):
        run_jobs(functools.partial(SQUARE, x=1), [Job("a")], engine="serial", folder=tmp_path)


def test_a_value_that_json_cannot_hold_is_a_failed_job(tmp_path):
    (outcome,) = run_jobs(lambda: {1}, [Job("a")], engine="serial", folder=tmp_path)
    assert outcome.error.startswith("job 'a' failed: TypeError: Object of type set is not JSON serializable")
    assert not (tmp_path / "a.json").exists()


def test_a_foreign_file_is_not_overwritten(tmp_path):
    (tmp_path / "a.json").write_text('{"mine": 1}')
    with pytest.raises(RunError, match=r"a\.json is not the result of a job: move it away or choose another folder"):
        run_jobs(SQUARE, [Job("a", {"x": 1})], engine="serial", folder=tmp_path)


def test_no_scheduler_no_jobs(tmp_path):
    pytest.importorskip("distributed")
    from tacit.training import engine

    with pytest.raises(RunError) as caught, warnings.catch_warnings():
        list(engine._dask([], "tcp://127.0.0.1:9", timeout=0.5))
    assert str(caught.value) == "no Dask scheduler answers at tcp://127.0.0.1:9: start one with 'dask scheduler'"


@pytest.mark.parametrize(
    ("text", "module", "extra", "name"),
    [("dask://127.0.0.1:9", "distributed", "cluster", "dask"), ("ray", "ray", "ray", "ray")],
)
def test_a_missing_cluster_package_names_its_extra(text, module, extra, name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError) as caught:
        run_jobs(SQUARE, [Job("a", {"x": 1})], engine=text, folder=tmp_path)
    assert str(caught.value) == (
        f"the engine {name!r} needs the package {module!r}, which is not installed: pip install 'tacit[{extra}]'"
    )


@pytest.mark.slow
def test_ray_carries_out_the_same_jobs(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    outcomes = run_jobs(SQUARE, jobs_of([2, 13, 99, 3]), engine="ray", folder=tmp_path)
    assert [(o.state, o.value) for o in outcomes] == [("done", 4), ("failed", None), ("killed", None), ("done", 9)]
