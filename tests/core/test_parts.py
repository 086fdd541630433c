"""The registry: one declaration a part, clashes refused, outside parts by module and by entry point."""

import importlib.metadata
import sys
import textwrap

import pytest

from tacit.core import parts
from tacit.core.errors import MissingExtraError, RecipeError, UnknownNameError, need, unknown


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A function that writes a module to the import path, and a registry that is restored afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(parts, "_imported", dict(parts._imported))

    def write(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    yield write
    parts._entry_points.cache_clear()


def test_every_listed_part_can_be_found_and_has_a_summary():
    listed = parts.parts()
    assert {entry.role for entry in listed} >= {
        "system",
        "encoder",
        "objective",
        "source",
        "views",
        "view",
        "optimizer",
    }
    for entry in listed:
        assert parts.find(entry.role, entry.kind).__name__ == entry.target.partition(":")[2]
        assert entry.summary.endswith("."), entry


def test_unknown_kind_answers_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"no objective named 'vicregg'\. Did you mean 'vicreg'\? Known: "):
        parts.find("objective", "vicregg")
    with pytest.raises(UnknownNameError, match=r"no objectiv named 'vicreg'\. Known: \(none\)\."):
        parts.find("objectiv", "vicreg")


def test_a_module_of_the_users_adds_parts(outside):
    module = outside(
        "lab_margin",
        """
        from tacit.core.parts import part
        @part("objective", "lab-margin")
        class Margin:
            "Hinge on the distance between views."
            def __init__(self, *, margin: float = 1.0) -> None: self.margin = margin
        """,
    )
    parts.use_module(module)
    assert parts.find("objective", "lab-margin")().margin == 1.0
    listed = {(entry.role, entry.kind): entry for entry in parts.parts("objective")}
    assert listed["objective", "lab-margin"].summary == "Hinge on the distance between views."


def test_a_clash_with_a_built_in_part_is_an_error(outside):
    module = outside(
        "lab_clash",
        """
        from tacit.core.parts import part
        @part("objective", "vicreg")
        class Mine: ...
        """,
    )
    with pytest.raises(
        RecipeError, match=r"objective 'vicreg' is declared twice, by tacit\.objectives.* and by lab_clash:Mine"
    ):
        parts.use_module(module)


def test_missing_module_says_how_to_make_it_importable():
    with pytest.raises(
        UnknownNameError, match=r"--with no_such_lab: no such module on the import path\. Run from the folder"
    ):
        parts.use_module("no_such_lab")


def test_a_module_that_needs_a_missing_package_names_that_package(outside):
    with pytest.raises(ModuleNotFoundError, match="really_missing"):
        parts.use_module(outside("lab_needs", "import really_missing"))


def entry_points(*pairs):
    made = [importlib.metadata.EntryPoint(name, value, "tacit.parts") for name, value in pairs]
    return lambda group: made if group == "tacit.parts" else []


def test_entry_points_add_parts_and_are_listed_without_import(outside, monkeypatch):
    outside("lab_entry", "class Margin:\n    pass\n")
    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points(("objective.lab-entry", "lab_entry:Margin")))
    parts._entry_points.cache_clear()
    assert "lab-entry" in parts.kinds("objective")
    assert "lab_entry" not in sys.modules
    assert parts.find("objective", "lab-entry").__name__ == "Margin"


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        (
            [("objective.vicreg", "lab:V")],
            r"objective 'vicreg' is declared twice, by tacit\..* and by lab:V: rename one",
        ),
        (
            [("objective.x", "lab:A"), ("objective.x", "lab:B")],
            r"objective 'x' is declared twice, by lab:A and by lab:B",
        ),
        (
            [("margin", "lab:A")],
            r"entry point 'margin' = 'lab:A' of group 'tacit.parts' must read role.kind = module:Class",
        ),
    ],
)
def test_faulty_entry_points_are_errors(monkeypatch, pairs, sentence, outside):
    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points(*pairs))
    parts._entry_points.cache_clear()
    with pytest.raises(RecipeError, match=sentence):
        parts.kinds("objective")


def test_missing_extra_names_the_pip_command():
    with pytest.raises(MissingExtraError) as caught:
        need("no_such_package.sub", "vision", "encoder 'timm'")
    assert str(caught.value) == (
        "encoder 'timm' needs the package 'no_such_package', which is not installed: pip install 'tacit[vision]'"
    )
    assert need("json", "vision", "anything").dumps([1]) == "[1]"


def test_unknown_without_choices():
    assert unknown("split", "x", [], "Look again.") == "no split named 'x'. Known: (none). Look again."
