"""What the report says of an int8 file, in words that follow from its numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekd.quantization import notes, of
from edgekd.ship import Shipped
from edgekd.stage import Artifact
from edgekd.target import Int8, load

CPU = load("cpu")


def shipped(**changed: Any) -> Shipped:
    metrics: dict[str, Any] = {
        "candidates": ["int8.onnx", "float.onnx"],
        "policy": Int8().model_dump(),
        "calibrator": "mse",
        "images": 512,
        "rounding": ["bias corrected"],
        "rounding_sqnr": {"nearest": 30.0, "bias corrected": 31.5},
        "saturation": {"sums": 1000, "clipped": 0, "layers": []},
        "in_float": [],
    }
    return Shipped(Artifact("quantize", Path("candidates"), {**metrics, **changed}), "int8.onnx", "")


REPAIRED = Artifact(
    "repair",
    Path("repaired"),
    {"repairs": ["equalised"], "repairs_sqnr": {"none": 20.0, "equalised": 30.0}, "pairs": 3},
)


def test_types_calibrator_and_each_repair_with_its_gain_are_one_line() -> None:
    assert notes(CPU, shipped(), REPAIRED, {}, ()) == [
        "int8: uint8 activations, 8-bit int8 weights per channel; mse over 512 images; "
        "repairs: equalised +10.0 dB, bias corrected +1.5 dB"
    ]


def test_seven_bits_say_why() -> None:
    line = notes(CPU, shipped(policy=Int8(reduce_range=True).model_dump()), REPAIRED, {}, ())[0]
    assert "7-bit int8 weights per channel, which no x86 CPU clips" in line


def test_clipped_sums_nodes_in_float_and_the_study_have_lines_of_their_own() -> None:
    made = shipped(saturation={"sums": 1000, "clipped": 10, "layers": ["conv1"]}, in_float=["conv1", "fc"])
    study = ({"top1": 0.9, "agreement": 0.99}, {"top1": 0.92, "agreement": 0.98})
    found = notes(CPU, made, REPAIRED, {"conv1": 0.0123}, study)
    assert found[1].startswith("on x86 without VNNI 10 of 1000 sums of two products (1.0e-02) would have been clipped")
    assert found[2] == "in float for the accuracy budget: conv1 (+0.012 ms), fc"
    assert found[3] == (
        "2 other draws of calibration images: top-1 on validation 90.00 – 92.00 % (deviation 1.00), "
        "agreement with float 98.00 – 99.00 %"
    )


def test_clipping_on_x86_is_not_mentioned_in_an_arm_build() -> None:
    made = shipped(saturation={"sums": 1000, "clipped": 10, "layers": ["conv1"]})
    assert [line for line in notes(load("arm64"), made, REPAIRED, {}, ()) if "x86" in line] == []
    assert len(notes(load("cpu-vnni"), made, REPAIRED, {}, ())) == len(notes(load("arm64"), made, REPAIRED, {}, ())) + 1


def test_without_int8_nothing_is_said_or_kept() -> None:
    assert notes(CPU, shipped(), None, {}, ()) == []
    assert of(shipped(), None, {}, ()) == {}


def test_the_report_keeps_repairs_rounding_and_costs() -> None:
    kept = of(shipped(), REPAIRED, {"a": 0.5}, ())
    assert kept["repairs"] == ["equalised"]
    assert kept["float_costs_ms"] == {"a": 0.5}
    assert "candidates" not in kept


def test_nodes_of_an_fp16_file_that_stay_in_float32_are_named() -> None:
    made = replace(shipped(beyond_float16=["mul_d", "mul_e"]), file="fp16.onnx")
    assert notes(CPU, made, None, {}, ()) == ["in float32, since float16 cannot hold their values: mul_d, mul_e"]
    assert notes(CPU, replace(made, file="float.onnx"), None, {}, ()) == []


def test_what_stays_in_float_in_any_case_is_told_with_the_reason() -> None:
    joins = [{"node": "cat", "largest": 318.4, "smallest": 0.97}, {"node": "add", "largest": 40.0, "smallest": 2.0}]
    kept = {"joins": joins, "float_around_joins": ["a", "cat"], "float_by_name": ["conv7"]}
    found = notes(CPU, shipped(), replace(REPAIRED, measured={**REPAIRED.metrics, **kept}), {}, ())
    assert found[1:] == [
        "in float behind the last layers: 2 nodes around cat, which joins values up to 318 with values up to 0.97; "
        "its parts keep their own qparams",
        "in float as quantize.float asks: conv7",
    ]
