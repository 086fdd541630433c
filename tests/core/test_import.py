"""What `import tacit` may and may not do, seen in fresh interpreters."""

import subprocess
import sys

QUIET = """
import sys, os, logging, warnings, time
env, handlers, filters = dict(os.environ), list(logging.getLogger().handlers), list(warnings.filters)
start = time.perf_counter()
import tacit
took = time.perf_counter() - start
assert dict(os.environ) == env, "environment changed"
assert logging.getLogger().handlers == handlers, "log handlers changed"
assert warnings.filters == filters, "warning filters changed"
assert "torch" not in sys.modules and "numpy" not in sys.modules, "heavy import"
print(took)
"""

DEFAULTS = """
import torch
names = ("get_default_dtype", "get_num_threads", "is_grad_enabled", "are_deterministic_algorithms_enabled",
         "get_float32_matmul_precision")
state = lambda: [getattr(torch, n)() for n in names] + [torch.backends.cudnn.benchmark, torch.backends.cuda.matmul.allow_tf32,
         torch.random.get_rng_state().sum().item()]
before = state()
import pkgutil, importlib, tacit
for info in pkgutil.walk_packages(tacit.__path__, "tacit."):
    if not info.name.endswith("__main__"):
        importlib.import_module(info.name)
assert state() == before, (before, state())
"""


def fresh(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_light_and_changes_nothing():
    assert min(float(fresh(QUIET)) for _ in range(3)) < 0.3


def test_no_module_of_tacit_changes_a_default_of_torch():
    fresh(DEFAULTS)


def test_listing_parts_and_recipes_imports_no_torch():
    fresh(
        "import sys\nfrom tacit.core import parts\nfrom tacit import recipes\n"
        "assert parts.parts() and recipes.names()\nassert 'torch' not in sys.modules\n"
    )


def test_an_unknown_public_name_is_an_attribute_error():
    fresh(
        "import tacit\ntry:\n    tacit.nonsense\nexcept AttributeError as e:\n"
        "    assert str(e) == \"module 'tacit' has no attribute 'nonsense'\"\nelse:\n    raise SystemExit(1)\n"
    )
