"""World models and latent actions on two processes: the gradient and the loss of the joined batch."""

import pytest

CASES = ("world-model", "world-model-first", "world-model-sigreg", "latent-action-vq", "latent-action-sparse")


@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_gradient_of_the_joined_batch(two_processes, case):
    assert two_processes[case]["gradient"] < 1e-10
    assert two_processes[case]["loss"] < 1e-12
    assert two_processes[case]["memory"] < 1e-12
