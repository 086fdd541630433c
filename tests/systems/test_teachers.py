"""A joint embedding with a teacher: which embedding meets which, what moves when, what is refused."""

from __future__ import annotations

import copy

import pytest
import torch

from tacit.core.errors import RecipeError
from tacit.core.recipe import Checks, Machine, Recipe
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View
from tacit.training import checkpoint
from tacit.training.ema import momentum_at
from tacit.training.loop import fit
from tacit.training.metrics import read_metrics

FACTS = Facts(channels=1, shape=(8, 8))
EMA, TWIN = Spec("teacher", "ema", momentum=0.9), Spec("teacher", "twin")
MLP, PREDICTOR = Spec("head", "mlp", widths=(8, 5)), Spec("head", "mlp", widths=(4, 5))
DINO = Spec("head", "dino", hidden=6, bottleneck=4, prototypes=7)
SWAV = Spec("head", "prototypes", widths=(6, 4), prototypes=7)
QUEUE = Spec("objective", "moco", keys=16)
METHODS = {
    "byol": {"projector": MLP, "objective": Spec("objective", "byol"), "teacher": EMA, "predictor": PREDICTOR},
    "simsiam": {"projector": MLP, "objective": Spec("objective", "simsiam"), "teacher": TWIN, "predictor": PREDICTOR},
    "moco": {"projector": MLP, "objective": QUEUE, "teacher": EMA},
    "moco-v3": {"projector": MLP, "objective": Spec("objective", "moco-v3"), "teacher": EMA, "predictor": PREDICTOR},
    "nnclr": {
        "projector": MLP,
        "objective": Spec("objective", "nnclr", support=16),
        "teacher": TWIN,
        "predictor": PREDICTOR,
    },
    "dino": {"projector": DINO, "objective": Spec("objective", "dino"), "teacher": EMA},
    "swav": {"projector": SWAV, "objective": Spec("objective", "swav"), "teacher": TWIN},
    "msn": {"projector": SWAV, "objective": Spec("objective", "msn"), "teacher": EMA},
    "vicreg-taught": {"projector": MLP, "objective": Spec("objective", "vicreg"), "teacher": EMA},
}


def spec(**settings):
    return Spec("system", "joint-embedding", encoder=Spec("encoder", "convnet", widths=(4, 6)), **settings)


def make(name, **changes):
    torch.manual_seed(0)
    return spec(**{**METHODS[name], **changes}).build(FACTS)


def batch(rng, names=("a", "b"), n=6):
    sizes = {name: 4 if name.startswith("local") else 8 for name in names}
    views = {name: View(torch.randn(n, 1, size, size, generator=rng)) for name, size in sizes.items()}
    return Batch(views, torch.arange(n))


@pytest.mark.parametrize("name", METHODS)
def test_steps_lower_the_loss_and_give_the_teacher_no_gradient(rng, name):
    system, given = make(name), batch(rng)
    learning = [p for group in system.groups() for p in group["params"]]
    optimizer = torch.optim.SGD(learning, lr=0.05)
    losses = []
    for step in range(12):
        loss = system(given, 0.5)["loss"]
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is None for p in system.teacher.parameters())
        optimizer.step()
        system.after_step(0.5 + step / 1000)
        losses.append(loss.item())
    assert min(losses[4:]) < losses[0]
    assert all(bool(p.grad.any()) for p in learning if p.ndim > 1)


def test_every_direction_counts_and_the_teacher_sees_global_views_alone(rng):
    """One line of the docstring, written out: two global and one local view make 2 x 1 + 2 pairs."""
    system, given = make("byol").eval(), batch(rng, ("a", "b", "local0"))
    x = {name: view.data for name, view in given.views.items()}
    q = {name: system.predictor(system.project(x[name])) for name in x}
    t = {name: system.teacher.projector(system.teacher.encoder(x[name]).pooled) for name in "ab"}
    pairs = [("a", "b"), ("b", "a"), ("local0", "a"), ("local0", "b")]
    expected = sum(system.objective(q[u], t[v])["loss"] for u, v in pairs) / 4
    torch.testing.assert_close(system(given, 0.0)["loss"], expected)


def test_the_twin_is_the_student_before_its_predictor(rng):
    system, given = make("simsiam").eval(), batch(rng)
    z = {name: system.project(view.data) for name, view in given.views.items()}
    q = {name: system.predictor(one) for name, one in z.items()}
    expected = (system.objective(q["a"], z["b"])["loss"] + system.objective(q["b"], z["a"])["loss"]) / 2
    torch.testing.assert_close(system(given, 0.0)["loss"], expected)
    assert not list(system.teacher.parameters())


def test_the_teacher_starts_as_the_student_and_follows_by_the_schedule(rng):
    system = make("byol", teacher=Spec("teacher", "ema", momentum=0.5, final=0.9))
    for name, p in system.teacher.encoder.named_parameters():
        assert torch.equal(p, system.encoder.get_parameter(name)) and not p.requires_grad
    before = copy.deepcopy(system.teacher)
    with torch.no_grad():
        for p in system.encoder.parameters():
            p.add_(torch.randn(p.shape, generator=rng))
    system(batch(rng), 0.25)
    system.after_step(0.25)
    m = momentum_at(0.25, 0.5, 0.9)
    assert m == pytest.approx(0.9 - 0.4 * (2**-0.5 + 1) / 2)
    for name, p in system.teacher.encoder.named_parameters():
        old, new = before.encoder.get_parameter(name), system.encoder.get_parameter(name)
        torch.testing.assert_close(p, m * old + (1 - m) * new)
    for name, buffer in system.teacher.encoder.named_buffers():
        assert torch.equal(buffer, system.encoder.get_buffer(name))  # running statistics are the student's


def test_a_final_momentum_equal_to_the_first_stays_fixed():
    assert {momentum_at(progress / 7, 0.999, 0.999) for progress in range(8)} == {0.999}


def test_a_memory_takes_in_the_teachers_views_after_the_step_in_train_mode_alone(rng):
    system, given = make("moco"), batch(rng)
    system.eval()(given, 0.0)
    assert not len(system.objective.queue.rows)
    system.train()(given, 0.0)
    forgetful = copy.deepcopy(system)
    forgetful.objective.remember = lambda *_: None
    assert torch.equal(system(given, 0.0)["loss"], forgetful(given, 0.0)["loss"])  # not yet among its own negatives
    keys = torch.cat([forgetful.teacher(given.views[name].data, None) for name in "ab"])
    rows = torch.nn.functional.normalize(keys)
    torch.testing.assert_close(system.objective.queue.rows[(12 + torch.arange(12)) % 16], rows)


def test_progress_reaches_the_head_and_the_target(rng):
    objective = Spec("objective", "dino", target_temperature=0.5, warmup=0.5)
    system, given = make("dino", projector=DINO.change(still=0.5), objective=objective).eval(), batch(rng)
    early, late = (system(given, progress)["loss"] for progress in (0.0, 0.9))
    assert early.item() != late.item()
    moved = [torch.autograd.grad(loss, system.projector.last_layer.weight_v)[0].any() for loss in (early, late)]
    assert [bool(x) for x in moved] == [False, True]


@pytest.mark.parametrize("name", ["dino", "swav"])
def test_of_prototypes_the_loss_reads_scores_and_judges_the_embedding_before_them(rng, name):
    system, x = make(name).eval(), torch.randn(3, 1, 8, 8, generator=rng)
    assert system.projector(system.embed(x).pooled).shape == (3, 7)
    torch.testing.assert_close(system.project(x).norm(dim=1), torch.ones(3))
    assert system.project(x).shape == (3, 4) and system.energy(x, None, x).abs().max() < 1e-6


def test_prototypes_come_back_to_length_one_after_a_step():
    system = make("swav")
    with torch.no_grad():
        system.projector.prototypes.weight.mul_(3.0)
    system.after_step(0.0)
    torch.testing.assert_close(system.projector.prototypes.weight.norm(dim=1), torch.ones(7))


def test_a_predictor_at_a_constant_rate_is_in_groups_of_its_own():
    scheduled, constant = make("simsiam"), make("simsiam", predictor_rate="constant")
    assert [(g["decay"], g["scheduled"]) for g in scheduled.groups()] == [(True, True), (False, True)]
    groups = {(g["decay"], g["scheduled"]): {id(p) for p in g["params"]} for g in constant.groups()}
    own = {id(p) for p in constant.predictor.parameters()}
    assert groups[True, False] | groups[False, False] == own and not own & (groups[True, True] | groups[False, True])
    optim = Spec("optimizer", "sgd", lr=0.2).build()
    from tacit.training.optimizers import rate_at, set_rate

    optimizer = optim.build(constant.groups())
    set_rate(optimizer, rate_at(optim, 0.75))
    rates = {group["lr"] for group in optimizer.param_groups if "peak" in group}
    assert rates == {0.2} and {g["lr"] for g in optimizer.param_groups} == {0.2, rate_at(optim, 0.75)}


def test_without_a_teacher_there_is_nothing_new_in_the_system():
    torch.manual_seed(0)
    system = spec(projector=MLP, objective=Spec("objective", "vicreg")).build(FACTS)
    assert {name.partition(".")[0] for name in system.state_dict()} == {"encoder", "projector"}
    assert system.teacher is None and system.predictor is None


REFUSED = {
    "no teacher": (
        {"projector": MLP, "objective": Spec("objective", "byol")},
        "objective 'byol' compares a student with a teacher, and there is none: set teacher=ema for a copy that follows slowly, "
        "or teacher=twin for the same weights with the gradient stopped",
    ),
    "a predictor of nothing": (
        {"projector": MLP, "objective": Spec("objective", "vicreg"), "predictor": PREDICTOR},
        "a predictor predicts a teacher's embedding, and there is none: set teacher=ema or twin, or lengthen the projector",
    ),
    "no prototypes": (
        {"projector": MLP, "objective": Spec("objective", "dino"), "teacher": EMA},
        "objective 'dino' reads scores of prototypes, and projector 'mlp' ends in none: set projector=dino or projector=prototypes",
    ),
    "prototypes for nobody": (
        {"projector": DINO, "objective": Spec("objective", "vicreg")},
        "projector 'dino' ends in scores of prototypes, and objective 'vicreg' compares embeddings: take projector=mlp, or an "
        "objective that reads scores, for example dino or swav",
    ),
    "a predictor of scores": (
        {"projector": SWAV, "objective": Spec("objective", "swav"), "teacher": TWIN, "predictor": PREDICTOR},
        "objective 'swav' compares scores of prototypes, which no predictor maps: leave out the predictor",
    ),
    "another width": (
        {**METHODS["byol"], "predictor": Spec("head", "mlp", widths=(4, 6))},
        "predictor: it must end in the 5 features of the projector that it predicts, found 6: change its last width",
    ),
    "a teacher that never moves": (
        {**METHODS["byol"], "teacher": Spec("teacher", "ema", momentum=1.0)},
        "teacher 'ema' with momentum 1 never moves from the first weights: take a momentum below 1, for example 0.996",
    ),
    "a teacher that hurries": (
        {**METHODS["byol"], "teacher": Spec("teacher", "ema", momentum=0.9, final=0.8)},
        "teacher 'ema' follows ever more slowly, found momentum=0.9 above final=0.8: swap them, or set both alike",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_compositions_that_mean_nothing_are_refused_in_a_sentence(case):
    settings, sentence = REFUSED[case]
    with pytest.raises(RecipeError) as caught:
        spec(**settings).build(FACTS)
    assert str(caught.value).endswith(sentence)


@pytest.mark.parametrize(
    "case",
    [
        *("system-with-queue", "system-with-support", "system-with-centre", "system-with-swav-queue"),
        *("supcon-system", "system-with-clusters"),
        *("system-with-hidden-patches", "system-with-hidden-patches-centred"),
    ],
)
def test_two_processes_learn_and_remember_as_one(two_processes, case):
    found = two_processes[case]
    assert found["gradient"] < 1e-10 and found["loss"] < 1e-12 and found["memory"] < 1e-12


@pytest.mark.compile
@pytest.mark.parametrize("name", ["byol", "moco", "nnclr", "dino", "swav"])
def test_it_compiles_without_a_graph_break(rng, name):
    system, given = make(name), batch(rng)
    system(given, 0.25)  # a memory has its width now
    other = copy.deepcopy(system)
    expected = system(given, 0.25)["loss"]
    found = torch.compile(other, backend="eager", fullgraph=True)(given, 0.25)["loss"]
    torch.testing.assert_close(found, expected)
    for one, two in zip(system.objective.buffers(), other.objective.buffers(), strict=True):
        torch.testing.assert_close(one, two)


class Interrupt(Exception):
    """A process that dies."""


class DieAfter:
    """A hook."""

    def __init__(self, step):
        self.step = step

    def __call__(self, step, terms, context):
        if step == self.step:
            raise Interrupt

    def close(self, status):
        pass


@pytest.mark.parametrize("name", ["moco", "dino"])
def test_a_run_cut_in_the_middle_ends_as_the_uninterrupted_one(tmp_path, name):
    """Teacher, queue and centre go on bit for bit."""
    view = Spec("view", "image", size=8, saturation=0.0, hue=0.0, grey=0.0, blur=0.0)
    recipe = Recipe(
        system=spec(**METHODS[name]),
        data=Spec("source", "digits"),
        views=Spec("views", "pair", first=view),
        optim=Spec("optimizer", "sgd", lr=0.05),
        steps=5,
        batch=8,
        checks=Checks(log_every=1, judge_every=0, save_every=1),
        machine=Machine(device="cpu", threads=1),
    )
    source = recipe.data.build()
    views = recipe.views.build(source.facts)

    def run(folder, *hooks):
        torch.manual_seed(2)
        fit(recipe, recipe.system.build(views.facts), source, views, folder, hooks=hooks)

    def left(folder):
        path = checkpoint.place(folder, checkpoint.saved_steps(folder)[0])
        rows = {key: (s.tolist(), v.tolist()) for key, (s, v) in read_metrics(folder).items()}
        return rows, {p.name: p.read_bytes() for p in path.iterdir()}

    run(tmp_path / "whole")
    with pytest.raises(Interrupt):
        run(tmp_path / "cut", DieAfter(3))
    assert checkpoint.saved_steps(tmp_path / "cut")[0] == 2
    run(tmp_path / "cut")
    assert left(tmp_path / "cut") == left(tmp_path / "whole")
