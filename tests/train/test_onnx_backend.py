"""ONNX's own backend tests, on the graph as a torch module: each one passes or is refused by name."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, numpy_helper
from onnx.backend.test.case.test_case import TestCase as Case
from onnx.backend.test.loader import load_model_tests

from edgekd.errors import ModelError
from edgekd.train.onnx_module import OnnxModule
from edgekd.train.onnx_operators import OPERATORS

FEWEST_PASSES = {"node": 160, "simple": 1, "pytorch-operator": 10, "pytorch-converted": 56}
"""Of onnx 1.23, which has 167 of the first kind; older ones have some fewer."""
RANDOM = {"test_training_dropout", "test_training_dropout_default"}
"""They expect one draw of random numbers."""


@cache
def claimed(kind: str) -> list[tuple[Case, ModelProto]]:
    """Return the tests all of whose operators are in the table."""
    with warnings.catch_warnings():
        # Its generators overflow and divide by zero on purpose.
        warnings.simplefilter("ignore")
        cases = load_model_tests(kind=kind)
    models = [case.model or onnx.load(Path(case.model_dir or "", "model.onnx")) for case in cases]
    return [
        (case, model)
        for case, model in zip(cases, models, strict=True)
        if all(node.op_type in OPERATORS and not node.domain for node in model.graph.node)
    ]


def data_of(case: Case, model: ModelProto) -> tuple[list[Any], list[Any]]:
    """Return the inputs and the expected outputs of a test's first data set; None for what is no tensor."""
    if case.data_sets is not None:
        given, expected = case.data_sets[0]
        return [array(value) for value in given], [array(value) for value in expected]
    folder = Path(case.model_dir or "", "test_data_set_0")
    return read(folder, "input", model.graph.input), read(folder, "output", model.graph.output)


def read(folder: Path, side: str, values: Iterable[ValueInfoProto]) -> list[Any]:
    """Read the files of one side, of which a graph may take fewer than it declares: it may hold initializers."""
    return [
        array(onnx.load_tensor(file)) if value.type.HasField("tensor_type") else None
        for number, value in enumerate(values)
        if (file := folder / f"{side}_{number}.pb").exists()
    ]


def array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else value


def with_one_input(model: ModelProto, given: list[Any]) -> ModelProto:
    """Return the model whose first input is its only one; its others become initializers, as weights are."""
    constants = {value.name for value in model.graph.initializer}
    names = [value.name for value in model.graph.input if value.name not in constants]
    assert len(names) == len(given)
    found = ModelProto()
    found.CopyFrom(model)
    rest = zip(names[1:], given[1:], strict=True)
    found.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in rest)
    return found


def answer(model: ModelProto, given: Any) -> NDArray[Any]:
    module = OnnxModule(model).eval()
    images = np.asarray(given)
    if images.dtype == np.uint8:
        images = images.transpose(0, 3, 1, 2).astype(np.float32)  # as pixels are fed in training
    with torch.inference_mode():
        return module(torch.from_numpy(images.copy())).numpy()


def verdict(case: Case, model: ModelProto) -> str:
    """Return passed, refused: why, wrong: how, or crashed: with what."""
    given, expected = data_of(case, model)
    model = with_one_input(model, given)
    try:
        found = answer(model, given[0])
        np.testing.assert_allclose(found, expected[0], rtol=1e-3, atol=1e-5)
        assert (found.shape, found.dtype) == (expected[0].shape, np.float32)
    except ModelError as error:
        return f"refused: {error.message}; {error.hint}"
    except AssertionError as error:
        return f"wrong: {error}"
    except Exception as error:  # whatever torch and Python raise is what must not be
        return f"crashed: {error!r}"
    return "passed"


@cache
def verdicts(kind: str) -> dict[str, str]:
    return {case.name: verdict(case, model) for case, model in claimed(kind)}


def is_plain(model: ModelProto) -> bool:
    """Whether a model makes one float32 tensor out of float32 tensors, with integers and flags as settings."""
    types = [value.type.tensor_type.elem_type for value in model.graph.input]
    made = [value.type.tensor_type.elem_type for value in model.graph.output]
    return made == [TensorProto.FLOAT] and set(types) <= {TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL}


@pytest.mark.parametrize("kind", FEWEST_PASSES)
def test_no_test_of_onnx_is_wrong_or_crashes(kind: str) -> None:
    found = verdicts(kind)
    assert {name: how for name, how in found.items() if how.startswith(("wrong", "crashed"))} == {}
    counts = Counter(how.partition(":")[0] for how in found.values())
    assert counts["passed"] >= FEWEST_PASSES[kind], counts


@pytest.mark.parametrize("kind", FEWEST_PASSES)
def test_no_test_from_float32_to_one_float32_is_refused_but_random_ones(kind: str) -> None:
    plain = {case.name for case, model in claimed(kind) if is_plain(model)}
    assert {name for name in plain if verdicts(kind)[name].startswith("refused")} - RANDOM == set()


def test_a_refusal_names_the_operator_or_what_the_graph_takes_and_makes() -> None:
    """Nothing else is refused, and each refusal has a way out."""
    refused = [how for how in verdicts("node").values() if how.startswith("refused")]
    words = ('cannot train the Cast "output": it makes ', "cannot train the Dropout ", "needs an input of FLOAT ",
             "needs one output, the graph has ", "needs UINT8 pixels [N, H, W, C], ")  # fmt: skip
    assert len(refused) > 80
    assert [how for how in refused if not any(word in how for word in words)] == []
    assert all("leave out [finetune]" in how for how in refused)
