"""The verbs, thin: parse, call one public function, print its result. Help and lists import no torch.

Exit codes: 0 done, 1 the run failed, 2 the request was wrong, 130 stopped by a signal with the state saved.
"""

from __future__ import annotations

import json
import sys

import typer

from tacit.cli import inside, look, make, plan, work
from tacit.core.errors import RunError, TacitError

__all__ = ["app", "main"]

app = typer.Typer(
    name="tacit",
    help="Learn by predicting in representation space; judge, probe and plan with what was learned.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
work.add_to(app)
look.add_to(app)
inside.add_to(app)
make.add_to(app)
plan.add_to(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code; every foreseen error is printed as its sentence."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        app(arguments)
    except TacitError as error:
        if "--json" in arguments:
            print(json.dumps({"error": str(error)}))
        print(f"tacit: {error}", file=sys.stderr)
        sys.exit(1 if isinstance(error, RunError) else 2)
