"""Every code block of README, CONTRIBUTING and docs runs; every command in them is a command."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list:
    found = []
    for page in PAGES:
        for i, (name, text) in enumerate(BLOCK.findall(page.read_text())):
            if name == language:
                found.append(pytest.param(text, id=f"{page.relative_to(ROOT)}-{i}"))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("text", blocks("python"))
def test_python_blocks_run(text, tmp_path):
    script = tmp_path / "block.py"
    script.write_text(text)
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


def commands() -> list:
    found = []
    for page in PAGES:
        for name, text in BLOCK.findall(page.read_text()):
            if name in ("sh", "console", "bash"):
                lines = text.replace("\\\n", " ").splitlines()
                found += [
                    line.removeprefix("$ ").strip() for line in lines if line.strip() and not line.startswith("#")
                ]
    return sorted(set(found))


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith("tacit ")])
def test_commands_exist_with_their_options(line):
    """Parse, do not run: an unknown verb, option or recipe in the documents is an error."""
    import typer.main

    from tacit import recipes
    from tacit.cli import app

    words = shlex.split(line.partition("#")[0])[1:]
    command = typer.main.get_command(app)
    context = command.make_context("tacit", list(words), resilient_parsing=True)
    rest = list(words)
    while hasattr(command, "commands"):
        name = rest.pop(0)
        assert name in command.commands, f"no verb {name!r}"
        command = command.commands[name]
    command.make_context(command.name, list(rest), parent=context)
    for word in rest:
        if re.fullmatch(r"(ssl|demo)\.\w+", word):
            assert word in recipes.names()


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
