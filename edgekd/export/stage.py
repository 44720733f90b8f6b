"""The stages `export` (torch -> ONNX with the float front) and `simplify` (onnxsim, in a child process)."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch

from edgekd import front, pooling, runtime
from edgekd.errors import ModelError, first_line
from edgekd.export import graph as clean
from edgekd.export.parity import TOLERANCE, relative_difference
from edgekd.frames import place
from edgekd.models import network
from edgekd.models.network import Network
from edgekd.models.pixels import normalise
from edgekd.ref import Ref
from edgekd.run import Run
from edgekd.stage import Metrics, stage
from edgekd.workload import arrays
from edgekd.workload.dataset import Images

_PARITY_IMAGES = 64
_SIMPLIFY_SECONDS = 600
_PROTOBUF_BYTES = 2**31


@stage(writes="model.onnx", version=1, tools=("torch", "onnx", "onnxscript"))
def export(out: Path, run: Run, start: Path, code: Ref, samples: Path, opset: int, ir: int) -> Metrics:
    """Write the float graph: `image` uint8 [N, H, W, 3] in, `logits` [N, classes] out, batch dynamic.

    Raises ModelError where the module cannot be exported, or onnxruntime does not agree with torch.
    """
    exported = network.load(start, code)
    exported.module.eval()
    _check_size(exported)
    images = arrays.sample(arrays.load(samples), _PARITY_IMAGES).images
    model = _to_onnx(exported, code, images, opset)
    clean.strip(model)
    written = max(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    if written > opset:
        raise ModelError(
            f'"{exported.plan.model}" cannot be written in opset {opset}: torch gave {written}',
            "raise runtime.opset in the target file, if the device's onnxruntime takes it",
        )
    pooled = pooling.pool_globally(model)
    clean.name_batch(model)
    front.put_on(model, exported.plan.normalisation)
    model.ir_version = ir
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, out)
    difference = relative_difference(_torch_logits(exported, images), _logits(out, images))
    if difference > TOLERANCE:
        raise ModelError(
            f'"{exported.plan.model}": the exported graph differs from torch by {difference:.2g} (relative)',
            "does its forward depend on the data or on random numbers in eval mode?",
        )
    return {"nodes": len(model.graph.node), "difference": difference, "global_pools": pooled}


@stage(writes="model.onnx", version=1, tools=("onnx", "onnxsim", "onnxruntime"))
def simplify(out: Path, run: Run, graph: Path, samples: Path) -> Metrics:
    """Write the simplified graph; on a crash or a difference the graph as it came, and say so.

    onnxsim is C++ that has crashed on users' models; in a child process a crash is a skipped stage.
    """
    images = arrays.sample(arrays.load(samples), _PARITY_IMAGES).images
    simplified = out.with_name("simplified.onnx")
    reason = _simplify(graph, simplified)
    difference = 0.0
    if not reason:
        difference = relative_difference(_logits(graph, images), _logits(simplified, images))
        if difference > TOLERANCE:
            reason = f"its outputs differ by {difference:.2g} (relative)"
    if reason:
        run.say(f"simplify: skipped, {reason}")
        shutil.copyfile(graph, out)
    else:
        model = onnx.load(simplified)
        clean.strip(model)
        onnx.save(model, out)
    before, after = len(onnx.load(graph).graph.node), len(onnx.load(out).graph.node)
    return {"skipped": reason, "nodes_before": before, "nodes": after, "difference": difference}


def _check_size(exported: Network) -> None:
    """Raise ModelError for weights that one ONNX file cannot hold, before the exporter works on them for minutes."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in exported.module.state_dict().values())
    if size >= _PROTOBUF_BYTES:
        raise ModelError(
            f'"{exported.plan.model}" has {size / 2**30:.2f} GiB of weights, and protobuf holds less than 2 in a file',
            "edgekd writes one file for one small device: take a smaller network, or cut more",
        )


def _to_onnx(exported: Network, code: Ref, images: Images, opset: int) -> onnx.ModelProto:
    pixels = torch.from_numpy(images[:2]).permute(0, 3, 1, 2)
    example = normalise(pixels, exported.plan.normalisation).contiguous()
    unheard = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(unheard), contextlib.redirect_stderr(unheard):
        # The exporter warns about its own deprecations, prints its progress, and dumps the graph where it fails.
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                exported.module,
                (example,),
                dynamo=True,
                opset_version=opset,
                input_names=["normalised"],
                output_names=[front.LOGITS],
                dynamic_shapes=({0: torch.export.Dim("N", min=1, max=65536)},),
                external_data=False,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ModelError(
                f'"{exported.plan.model}" cannot be exported: {_cause(error, code)}', _EXPORT_HINT
            ) from None
    if program is None:
        raise ModelError(f'"{exported.plan.model}" cannot be exported', _EXPORT_HINT)
    return program.model_proto


_EXPORT_HINT = (
    "torch.onnx.export(dynamo=True) must take it: no control flow on tensor values (torch.where chooses without), "
    "standard operators"
)


def _cause(error: BaseException, code: Ref) -> str:
    """Return the innermost reason, which the exporter wraps in pages of advice, and the user's own line behind it."""
    # Here, since sympy behind it takes 0.4 s of every start; the exporter has loaded it.
    from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode  # noqa: PLC0415

    found = place(error, code.folder)
    while error.__cause__ is not None:
        error = error.__cause__
        found = place(error, code.folder) or found
    depends = isinstance(error, GuardOnDataDependentSymNode)
    reason = "its forward decides by the values of a tensor" if depends else first_line(error)
    return f"{reason}{found}"


def _torch_logits(exported: Network, images: Images) -> np.ndarray:
    with torch.inference_mode():
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
        return exported.module(normalise(pixels, exported.plan.normalisation)).numpy()  # type: ignore[no-any-return]


def _logits(model: Path, images: Images) -> np.ndarray:
    return runtime.run(runtime.open_session(model, runtime.Settings()), images)


def _simplify(graph: Path, simplified: Path) -> str:
    """Run onnxsim; return why it failed, or nothing."""
    # -P: a file of the current folder that is named like a library must not be imported.
    command = [sys.executable, "-P", "-m", "onnxsim", str(graph), str(simplified)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SIMPLIFY_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"onnxsim took more than {_SIMPLIFY_SECONDS} s"
    if done.returncode < 0:
        return f"onnxsim crashed with signal {-done.returncode}"
    if done.returncode or not simplified.exists():
        last = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        # Its message may hold paths, and ends in the report.
        return f"onnxsim failed: {re.sub(r'[^ ]*/[^ ]*', '…', last[-1].strip()) if last else 'no message'}"
    return ""
