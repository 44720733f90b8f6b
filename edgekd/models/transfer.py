"""What a network takes over from given weights, and what of it keeps them while the rest learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from edgekd.errors import ModelError, did_you_mean


def with_new_head(
    weights: Mapping[str, Tensor], module: nn.Module, classes: int
) -> tuple[dict[str, Tensor], list[str]]:
    """Return weights in which the last layer is the module's own, and what was left of the file's, in words.

    The last layer is known by its shape: as many outputs as the data has classes where the file has another number,
    and equal in all else. Raises ModelError where all of the weights fit, so that no layer is the head.
    """
    expected = module.state_dict()
    others = {
        name
        for name, tensor in weights.items()
        if name not in expected or not _is_of_other_classes(tensor, expected[name], classes)
    }
    inner = {name.rpartition(".")[0] for name in others}
    own = {name: expected[name] for name in weights if name.rpartition(".")[0] not in inner}
    if not own:
        raise ModelError(
            f'head = "replace", but no layer of the weights has another number of outputs than {classes}',
            "leave out head: the weights fit as they are; or check that args give the model the data's classes",
        )
    replaced = [f"{name} ({weights[name].shape[0]} -> {classes} outputs)" for name in own]
    return {**weights, **own}, replaced


def _is_of_other_classes(given: Tensor, wanted: Tensor, classes: int) -> bool:
    if not given.ndim or not wanted.ndim:
        return False
    return given.shape[0] != wanted.shape[0] == classes and given.shape[1:] == wanted.shape[1:]


def freeze(module: nn.Module, paths: Sequence[str]) -> list[nn.Module]:
    """Stop layers from learning, and return them: their BatchNorms are to stay in eval too.

    Raises ModelError for an unknown path, and where nothing is left to learn.
    """
    layers = dict(module.named_modules())
    for path in paths:
        if path not in layers or not path:
            known = [name for name in layers if name]
            top = [name for name, _ in module.named_children()]
            raise ModelError(
                f'freeze: no layer "{path}" in the model', f"{did_you_mean(path, known)}its parts: {', '.join(top)}"
            )
    found = [layers[path] for path in paths]
    for layer in found:
        layer.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ModelError("freeze leaves nothing to learn", "freeze fewer layers")
    return found
