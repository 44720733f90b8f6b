"""RandAugment on a batch gives each image what torchvision's own gives it alone."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from edgekd.recipe import RandAugment
from edgekd.train import draws
from edgekd.train.draws import Draw, Draws
from edgekd.train.randaugment import OPERATIONS, randaugment

# Ours in torchvision's words, in its order.
NAMES = dict(zip(OPERATIONS, v2.RandAugment._AUGMENTATION_SPACE, strict=True))


def pictures(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, 16, 20, 3), generator=generator, dtype=torch.uint8)


class Told(v2.RandAugment):
    """torchvision's, told which operation to take."""

    def __init__(self, operation: str, magnitude: int) -> None:
        super().__init__(num_ops=1, magnitude=magnitude)
        self._told = operation

    def _get_random_item(self, dct: dict[str, object]) -> tuple[str, object]:
        return self._told, dct[self._told]


@pytest.mark.parametrize("magnitude", [0, 9, 30])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_is_torchvisions_in_strength_and_either_sign(operation: str, magnitude: int) -> None:
    image = pictures(1)
    number = list(OPERATIONS).index(operation)
    either = []
    for seed in range(12):  # torchvision draws the sign from torch's generator
        torch.manual_seed(seed)
        either.append(Told(NAMES[operation], magnitude)(image.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).int())
    found = []
    for sign in (0.2, 0.8):
        table = np.zeros((1, 24), dtype=np.float32)
        table[:, Draw.OPERATION_1], table[:, Draw.SIGN_1] = (number + 0.5) / len(OPERATIONS), sign
        told = Draws(table, torch.from_numpy(table))
        found.append(randaugment(image, told, RandAugment(operations=1, magnitude=magnitude)).int())
    # Its strengths are rounded to float32, ours are not: a grey level at most.
    assert all(any((ours - theirs).abs().max() <= 1 for theirs in either) for ours in found)
    assert all(any((ours - theirs).abs().max() <= 1 for ours in found) for theirs in either)


def test_a_batch_is_its_images_one_by_one() -> None:
    images, table = pictures(40), draws.of_view(0, 0, 40)
    config = RandAugment(operations=3, magnitude=12)
    whole = randaugment(images, table, config)
    for index in range(40):
        alone = randaugment(images[index : index + 1], table.of(torch.tensor([index]), torch.tensor([index])), config)
        assert torch.equal(alone[0], whole[index])
    assert (whole != images).flatten(1).any(1).float().mean() > 0.7
