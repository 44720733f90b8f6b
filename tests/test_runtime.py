"""A session is opened as asked or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekd import runtime
from edgekd import target as targets
from edgekd.errors import ModelError, TargetError
from edgekd.host import Host
from edgekd.runtime import Settings, exact_here, open_session, settings_of
from edgekd.target import Runtime


@pytest.fixture
def doubling(tmp_path: Path) -> Path:
    """A model that adds its input to itself."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", [value[0]], [value[1]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    file = tmp_path / "double.onnx"
    onnx.save(model, file)
    return file


def machine(architecture: str, *flags: str) -> Host:
    return Host(cpu="c", cores=1, architecture=architecture, instructions=frozenset(flags), gpu="")


def test_a_provider_that_is_not_there_is_a_target_error(doubling: Path) -> None:
    with pytest.raises(TargetError) as caught:
        open_session(doubling, Settings(providers=("NoSuchExecutionProvider", "CPUExecutionProvider")))
    assert caught.value.message.startswith("this onnxruntime has no NoSuchExecutionProvider (it has ")
    assert "CPUExecutionProvider" in caught.value.message


@pytest.mark.parametrize("content", [b"", b"no model", None], ids=["empty", "garbage", "missing"])
def test_a_file_that_is_no_model_is_a_model_error_of_one_line(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "model.onnx"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        open_session(file, Settings())
    assert caught.value.message.startswith("model.onnx is not a model that onnxruntime takes: ")
    assert "\n" not in caught.value.message


def test_the_optimised_graph_is_written_where_it_is_asked_for(doubling: Path, tmp_path: Path) -> None:
    open_session(doubling, Settings(), tmp_path / "optimized.onnx")
    assert [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node] == ["Add"]


@pytest.mark.parametrize("batch", [1, 3, 7, 100])
def test_any_batch_gives_all_answers_in_order(doubling: Path, batch: int) -> None:
    values = np.arange(14, dtype=np.float32).reshape(7, 2)
    found = runtime.run(open_session(doubling, Settings()), values, batch)
    assert np.array_equal(found, 2 * values)


def test_threads_and_entries_reach_the_session(doubling: Path) -> None:
    session = open_session(doubling, Settings(threads=2, entries={"session.x64quantprecision": "1"}))
    options = session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.get_session_config_entry("session.x64quantprecision") == "1"


def test_a_targets_own_settings_are_its_runtime_table() -> None:
    table = Runtime(providers=("A", "B"), threads=3, session={"key": "value"})
    assert settings_of(table) == Settings(providers=("A", "B"), threads=3, entries={"key": "value"})


@pytest.mark.parametrize(
    ("target", "host", "careful"),
    [
        ("arm64", machine("x86_64", "avx2"), True),
        ("cpu-vnni", machine("x86_64", "avx2"), True),
        ("arm64", machine("x86_64", "avx512_vnni"), False),
        ("arm64", machine("aarch64"), False),
        ("cpu", machine("x86_64", "avx2"), False),
        ("cuda", machine("x86_64", "avx2"), False),
    ],
)
def test_only_eight_bit_weights_on_a_saturating_host_need_care(target: str, host: Host, careful: bool) -> None:
    settings = exact_here(targets.load(target), host, threads=4)
    assert settings.entries == ({"session.x64quantprecision": "1"} if careful else {})
    assert (settings.providers, settings.threads) == (("CPUExecutionProvider",), 4)


def test_the_operators_of_a_model_are_those_that_run(doubling: Path) -> None:
    from edgekd.operators import that_run

    assert that_run(doubling, Settings()).counts == {"Add": 1}


def of_size(*shape: int | str) -> onnx.ModelProto:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "net", [value[0]], [value[1]])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize("shape", [("N", 3, 2**31, 8), (2**28 + 1,), (2**40, 2**40)])
def test_an_input_that_no_memory_holds_is_refused_before_it_is_fed(shape: tuple[int | str, ...]) -> None:
    with pytest.raises(ModelError, match=r"the input x of net takes \d+ values at once"):
        runtime.check_opens(of_size(*shape), "net")


def test_the_largest_input_that_is_fed_is_a_gigabyte_of_float32() -> None:
    runtime.check_opens(of_size("N", 2**28), "net")


def test_what_onnxruntime_says_is_told_without_its_codes_and_its_own_files() -> None:
    model = of_size("N", 4)
    model.graph.initializer.append(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], raw_data=bytes(17)))
    model.graph.node.append(helper.make_node("Add", ["x", "w"], ["z"]))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    with pytest.raises(ModelError) as caught:
        runtime.check_opens(model, "net")
    assert caught.value.message.startswith("net is not a model that onnxruntime takes: ")
    assert "[ONNXRuntimeError]" not in caught.value.message
    assert "/onnxruntime_src/" not in caught.value.message


def test_a_path_that_is_not_utf8_is_an_error_that_says_so(doubling: Path) -> None:
    """onnxruntime answers with a list of the types that its constructor takes."""
    odd = doubling.rename(doubling.with_name(os.fsdecode(b"caf\xe9.onnx")))
    with pytest.raises(ModelError, match=r"^onnxruntime opens no path that is not UTF-8: .*caf\\udce9.onnx$"):
        open_session(odd, Settings())
