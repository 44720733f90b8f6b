"""Runs in the arm64 guest (numpy and onnxruntime only): `guest.py MODEL GOLDEN` prints one JSON line."""

import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort


def main(model: str, golden: str) -> dict[str, Any]:
    """How the logits of `model` compare with those in `golden`, row by row, and on what machine."""
    with np.load(golden) as data:
        images, wanted = data["image"], data["logits"]
    got = logits(model, images)
    if (got.shape, got.dtype) != (wanted.shape, wanted.dtype):
        raise SystemExit(f"logits are {got.dtype}{got.shape}, golden {wanted.dtype}{wanted.shape}")
    # As bits, because == calls 0.0 and -0.0 equal.
    equal = (got.view(np.uint32) == wanted.view(np.uint32)).all(axis=1)
    return {
        "machine": platform.machine(),
        "dotprod": "asimddp" in Path("/proc/cpuinfo").read_text(encoding="utf-8").split(),
        "onnxruntime": ort.__version__,
        "max_abs_diff": float(np.abs(got - wanted).max()),
        "rows": len(wanted),
        "rows_equal": int(equal.sum()),
        "argmax_equal": int((got.argmax(1) == wanted.argmax(1)).sum()),
    }


def logits(model: str, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The model's answers, one image at a time as a device gives them."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["logits"], {"image": image[None]})[0] for image in images])


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])) + "\n")
