"""The two networks of the built-in example."""

import torch

from edgekd.models.digits import digits_student, digits_teacher
from edgekd.models.stage import count_parameters


def test_teacher_is_wider_than_student_and_both_know_ten_digits() -> None:
    teacher, student = digits_teacher().eval(), digits_student().eval()
    assert count_parameters(teacher) > 3 * count_parameters(student)
    with torch.inference_mode():
        assert teacher(torch.zeros(1, 3, 16, 16)).shape == student(torch.zeros(1, 3, 16, 16)).shape == (1, 10)
