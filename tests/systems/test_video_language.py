"""A language model behind a frozen encoder of video."""

from __future__ import annotations

import pytest
import torch

from tacit.core.errors import CheckpointError, DataError, RecipeError
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View
from tacit.models.language import ByteTokens
from tacit.ops.text import packed, unpacked
from tacit.worlds.clips.questions import QUESTIONS, ClipQuestions

transformers = pytest.importorskip("transformers")

FACTS = Facts(channels=1, shape=(4, 16, 16))
ENCODER = Spec("encoder", "vit", patch=8, tubelet=2, width=24, depth=1, heads=2, pooling="mean", class_token=False)
SMALL = Spec("language", "causal", width=16, depth=1, heads=2, hidden=16)


def made(language=SMALL, bridge=None, **settings):
    torch.manual_seed(0)
    bridge = bridge or Spec("bridge", "mlp")
    return (
        Spec("system", "video-language", encoder=ENCODER, bridge=bridge, language=language, **settings)
        .build(FACTS)
        .eval()
    )


def batch(rng, questions=("How many?", "Which way does it go?"), answers=("two", "left")):
    facts = {"question": packed(questions), "answer": packed(answers)}
    return Batch(
        {"image": View(torch.randn(len(questions), 1, 4, 16, 16, generator=rng))},
        torch.arange(len(questions)),
        facts=facts,
    )


def test_texts_travel_as_bytes():
    texts = ["", "two", "Où?"]
    assert unpacked(packed(texts)) == unpacked(packed(texts, 20)) == texts
    with pytest.raises(ValueError, match="a text of 3 bytes does not fit into 2"):
        packed(["two"], 2)
    with pytest.raises(ValueError, match="must not hold the character 0"):
        packed(["a\0b"])


def test_the_likelihood_is_the_chain_of_the_answers_tokens(rng):
    """Token by token without any filling, each sample alone."""
    system, given = made(), batch(rng)
    seen = system.see(given.views["image"].data)
    questions, answers = ["How many?", "Which way does it go?"], ["two", "left"]
    expected = []
    for i, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        text, told = [*list(question.encode()), 10], [*answer.encode(), ByteTokens.end]
        inputs = torch.cat([seen[i : i + 1], system.language.embed(torch.tensor([[*text, *told]]))], 1)
        logits = system.language.model(inputs_embeds=inputs).logits.log_softmax(-1)[0]
        first = seen.shape[1] + len(text)
        expected.append(torch.stack([logits[first + j - 1, token] for j, token in enumerate(told)]).mean())
    found = system.likelihood(seen, questions, answers)
    torch.testing.assert_close(found, torch.stack(expected))
    torch.testing.assert_close(system.loss(given, 0.0)["loss"], -found.mean())
    x, facts = given.views["image"].data, given.facts
    torch.testing.assert_close(system.energy(x, facts["question"], facts["answer"]), -found)


def test_stages_train_what_they_say(rng):
    for trains, kept in (("bridge", {"bridge"}), ("all", {"bridge", "language"})):
        system = made(trains=trains).train()
        system.loss(batch(rng), 0.0)["loss"].backward()
        moved = {name.partition(".")[0] for name, p in system.named_parameters() if p.grad is not None}
        assert moved == kept
        learning = {id(p) for group in system.groups() for p in group["params"]}
        assert learning == {id(p) for name, p in system.named_parameters() if name.partition(".")[0] in kept}
        assert not system.encoder.training and system.language.training == (trains == "all")


def test_answers_are_the_likeliest_continuation_whatever_the_others_are(rng):
    system, given = made(), batch(rng, ["How many?", "Which?", "How long"], ["", "", ""])
    x, questions = given.views["image"].data, ["How many?", "Which?", "How long"]
    together = system.answers(x, questions, 4)
    assert together == [system.answers(x[i : i + 1], questions[i : i + 1], 4)[0] for i in range(3)]
    seen, written = system.see(x[:1]), []
    for _ in range(4):
        ids = torch.tensor([[*b"How many?\n", *written]])
        written.append(
            int(
                system.language.model(inputs_embeds=torch.cat([seen, system.language.embed(ids)], 1))
                .logits[0, -1]
                .argmax()
            )
        )
    until = written.index(256) if 256 in written else 4
    assert together[0] == bytes(written[:until]).decode(errors="ignore")


def test_a_bridge_that_pools_leaves_a_quarter_of_the_tokens(rng):
    x = batch(rng).views["image"].data
    assert made().see(x).shape == (2, 8, 16)
    pooled = made(bridge=Spec("bridge", "attentive", pool=4, heads=2))
    assert pooled.see(x).shape == (2, 2, 16)
    tokens = pooled.encoder(x).tokens
    torch.testing.assert_close(pooled.bridge(tokens.flip(1)), pooled.bridge(tokens))  # it has no order of its own


def test_a_model_from_a_folder_answers_as_the_same_model_here(rng, tmp_path):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE({**letters, "<|endoftext|>": 256}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(
        tmp_path
    )
    torch.manual_seed(1)
    config = transformers.Qwen2Config(
        vocab_size=257, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, intermediate_size=16,
        eos_token_id=256, bos_token_id=None,
    )  # fmt: skip
    theirs = transformers.Qwen2ForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path)
    system = made(Spec("language", "causal", folder=str(tmp_path)))
    x = batch(rng).views["image"].data[:1]
    seen = system.see(x)
    text = [letters.get(letter, letters["Ġ"]) for letter in "How many?"] + [letters["Ċ"]]
    told = [*(letters[letter] for letter in "two"), 256]
    inputs = torch.cat([seen, theirs.get_input_embeddings()(torch.tensor([[*text, *told]]))], 1)
    logits = theirs(inputs_embeds=inputs).logits.log_softmax(-1)[0]
    expected = torch.stack([logits[seen.shape[1] + len(text) + j - 1, token] for j, token in enumerate(told)]).mean()
    torch.testing.assert_close(system.likelihood(seen, ["How many?"], ["two"])[0], expected)
    assert system.language.tokens.decode(told) == "two"
    assert isinstance(system.answers(x, ["How many?"], 3)[0], str)
    with pytest.raises(
        CheckpointError, match=r"no folder of a transformers model .*; nothing is downloaded, fetch it yourself"
    ):
        made(Spec("language", "causal", folder=str(tmp_path / "none")))


def test_what_does_not_fit_is_refused(rng, tmp_path):
    bare = batch(rng)
    with pytest.raises(DataError, match="needs clips of one size with the facts `question` and `answer`"):
        made().loss(Batch(bare.views, bare.ids), 0.0)
    with pytest.raises(CheckpointError, match="holds no checkpoint to start from"):
        made(start=str(tmp_path))
    with pytest.raises(RecipeError, match="splits width=18 among heads=4"):
        Spec("language", "causal", width=18, heads=4).resolve()


def test_questions_about_clips_are_true_of_them():
    source = ClipQuestions(count=40, shapes=2)
    given = source.read(range(40))
    asked, answers = unpacked(given.facts["question"]), unpacked(given.facts["answer"])
    kinds = {text: kind for kind, text in QUESTIONS.items()}
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    for i, (question, answer) in enumerate(zip(asked, answers, strict=True)):
        if kinds[question] in ("identity", "count"):
            assert names.index(answer) == int(given.facts[kinds[question]][i])
        if kinds[question] == "place":
            assert answer.startswith("top") == (float(given.facts["position"][i, 0]) < 12)
    assert {kinds[question] for question in asked} == {"direction", "identity", "count", "place"}
    again = source.read([7])
    assert unpacked(again.facts["answer"])[0] == answers[7] and torch.equal(
        again.facts["question"][0], given.facts["question"][7]
    )
    captions = ClipQuestions(count=4, about="caption").read(range(4))
    assert all(
        text.startswith("The digit ") and text.endswith(" behind it.") for text in unpacked(captions.facts["answer"])
    )
