"""What reaches an objective besides embeddings: labels that the recipe names, ids, queued embeddings, all anchors at once."""

from __future__ import annotations

import pytest
import torch

from tacit.core.errors import DataError, RecipeError
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View

FACTS = Facts(channels=1, shape=(8, 8))
MLP = Spec("head", "mlp", widths=(8, 5))
SWAV = Spec("head", "prototypes", widths=(6, 4), prototypes=7)
TWIN, EMA = Spec("teacher", "twin"), Spec("teacher", "ema", momentum=0.9)
SUPCON = Spec("objective", "supcon")


def make(**settings):
    torch.manual_seed(0)
    encoder = settings.pop("encoder", Spec("encoder", "convnet", widths=(4, 6)))
    return Spec("system", "joint-embedding", encoder=encoder, **{"projector": MLP, **settings}).build(FACTS)


def batch(rng, names=("a", "b"), n=8, **facts):
    sizes = {name: 4 if name.startswith("local") else 8 for name in names}
    views = {name: View(torch.randn(n, 1, size, size, generator=rng)) for name, size in sizes.items()}
    return Batch(views, torch.arange(n) + 100, facts=facts)


def test_supcon_reads_the_labels_that_the_recipe_names(rng):
    system = make(objective=SUPCON, labels="species").eval()
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    given = batch(rng, species=labels, label=torch.zeros(8, dtype=torch.int64))
    z = [system.project(given.views[name].data) for name in "ab"]
    torch.testing.assert_close(system(given, 0.0)["loss"], system.objective(*z, labels=labels)["loss"])


def test_labels_that_are_not_there_are_refused_with_what_is(rng):
    system = make(objective=SUPCON, labels="label")
    with pytest.raises(DataError) as caught:
        system(batch(rng, species=torch.zeros(8)), 0.0)
    assert str(caught.value) == (
        "objective 'supcon' reads labels='label', and these samples come with species: train on data with labels, or name another entry"
    )
    with pytest.raises(DataError, match="come with no facts at all"):
        system(batch(rng), 0.0)


REFUSED = {
    "labels unnamed": (
        {"objective": SUPCON},
        "objective 'supcon' contrasts classes and reads no labels by itself: name the entry of the batch's facts that holds them, "
        "labels=label, or use objective 'simclr', which needs none",
    ),
    "labels for another": (
        {"objective": Spec("objective", "simclr"), "labels": "label"},
        "objective 'simclr' reads no labels, found labels='label': leave it empty, or use objective 'supcon'",
    ),
    "labels and a teacher": (
        {"objective": SUPCON, "labels": "label", "teacher": EMA},
        "objective 'supcon' contrasts the views of one batch and takes no teacher: leave out the teacher",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_labels_are_named_for_one_objective_alone(case):
    settings, sentence = REFUSED[case]
    with pytest.raises(RecipeError) as caught:
        make(**settings)
    assert str(caught.value).endswith(sentence)


def test_deepcluster_learns_the_clusters_of_samples_by_their_ids(rng):
    system = make(objective=Spec("objective", "deepcluster", prototypes=(3, 2), memory=8), teacher=TWIN)
    given = batch(rng)
    system(given, 0.0)
    assert system.objective.known.tolist() == list(range(100, 108))
    asked = []
    target = system.objective.target
    system.objective.target = lambda *a, **k: asked.append(k) or target(*a, **k)
    system(given, 0.1)
    assert [sorted(k) for k in asked] == [["ids", "place"]] * 2 and [k["place"] for k in asked] == [0, 1]
    assert torch.equal(asked[0]["ids"], given.ids)


@pytest.mark.parametrize("teacher", [TWIN, EMA], ids=["twin", "ema"])
def test_swavs_queue_holds_embeddings_of_each_view_and_is_scored_by_the_prototypes_of_now(rng, teacher):
    system, given = make(objective=Spec("objective", "swav", queue=8), projector=SWAV, teacher=teacher), batch(rng)
    system(given, 0.0)
    head = system.projector if teacher is TWIN else system.teacher.projector
    encoder = system.encoder if teacher is TWIN else system.teacher.encoder
    for queue, name in zip(system.objective.queues, "ab", strict=True):
        embedding = head.embedding(encoder(given.views[name].data).pooled).detach()
        torch.testing.assert_close(queue.rows, embedding, atol=1e-5, rtol=1e-4)
    other = batch(rng)
    with torch.no_grad():
        head.prototypes.weight.copy_(torch.nn.functional.normalize(torch.randn(7, 4, generator=rng)))
    t = {name: head(encoder(other.views[name].data).pooled).detach() for name in "ab"}
    s = {name: system.projector(system.encoder(other.views[name].data).pooled) for name in "ab"}
    expected = 0.0
    for u, v, place in (("b", "a", 0), ("a", "b", 1)):
        kept = system.objective.queues[place].rows @ head.prototypes.weight.T
        codes = Spec("objective", "swav").build().target(torch.cat([kept, t[v]]))[8:]
        expected = expected - (codes * torch.log_softmax(s[u] / 0.1, dim=1)).sum(dim=1).mean() / 2
    torch.testing.assert_close(system(other, 0.5)["loss"], expected, atol=1e-5, rtol=1e-4)


def test_of_masked_anchors_the_entropy_is_that_of_all_and_the_teacher_sees_whole_views(rng):
    """MSN: one target view, one anchor with patches left out, two small crops; the mean prediction is over all anchors."""
    vit = Spec("encoder", "vit", patch=2, width=8, heads=2, depth=1)
    head = Spec("head", "dino", hidden=6, bottleneck=4, prototypes=7, deviation=0.5)
    system = make(encoder=vit, projector=head, objective=Spec("objective", "msn"), teacher=EMA).eval()
    given = batch(rng, ("a", "b", "local0", "local1"))
    keep = torch.stack([torch.randperm(16, generator=rng)[:9].sort().values for _ in range(8)])
    views = {**given.views, "b": View(given.views["b"].data, keep=keep)}
    given = Batch(views, given.ids)
    student = [
        system.projector(system.encoder(views["b"].data, keep).pooled),
        *(system.projector(system.encoder(views[name].data).pooled) for name in ("local0", "local1")),
    ]
    t = system.teacher(views["a"].data, None)
    p = torch.softmax(torch.cat(student) / 0.1, dim=1)
    target = torch.softmax(t / 0.025, dim=1).repeat(3, 1)
    terms = system(given, 0.0)
    torch.testing.assert_close(terms["match"], -(target * p.log()).sum(dim=1).mean())
    mean = p.mean(dim=0)
    torch.testing.assert_close(terms["spread"], torch.log(torch.tensor(7.0)) + (mean * mean.log()).sum())


def test_a_batch_in_which_every_view_is_masked_has_nothing_for_the_teacher(rng):
    vit = Spec("encoder", "vit", patch=2, width=8, heads=2, depth=1)
    system = make(encoder=vit, objective=Spec("objective", "byol"), teacher=EMA)
    keep = torch.arange(9).expand(8, -1)
    views = {name: View(view.data, keep=keep) for name, view in batch(rng).views.items()}
    with pytest.raises(DataError) as caught:
        system(Batch(views, torch.arange(8)), 0.0)
    assert str(caught.value) == (
        "system 'joint-embedding' has no pair of a student's view and another whole, global one for the teacher: found a, b; leave one "
        "of the large views unmasked"
    )
