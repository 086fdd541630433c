import copy

import pytest
import torch
from torch import nn

from tacit.core.errors import RunError
from tacit.training.ema import follow


def pair():
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    teacher = copy.deepcopy(student).requires_grad_(False)
    with torch.no_grad():
        for p in student.parameters():
            p.add_(torch.randn_like(p))
    student(torch.randn(8, 3, dtype=torch.float64))
    return teacher, student


@pytest.mark.parametrize("momentum", [0.0, 0.25, 1.0])
def test_parameters_are_averaged_and_buffers_copied(momentum):
    teacher, student = pair()
    before = copy.deepcopy(teacher)
    follow(teacher, student, momentum)
    for t, b, s in zip(teacher.parameters(), before.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(t, momentum * b + (1 - momentum) * s)
    for t, s in zip(teacher.buffers(), student.buffers(), strict=True):
        assert torch.equal(t, s)


def test_mixed_number_formats_follow_too():
    teacher, student = pair()
    teacher[0].float(), student[0].float()
    follow(teacher, student, 0.0)
    assert torch.equal(teacher[0].weight, student[0].weight)
    assert torch.equal(teacher[1].weight, student[1].weight)


def test_a_teacher_of_another_form_is_refused():
    teacher, _ = pair()
    with pytest.raises(RunError, match=r"a teacher follows a student of the same form, but one alone has '1.bias', "):
        follow(teacher, nn.Sequential(nn.Linear(3, 4)), 0.9)
