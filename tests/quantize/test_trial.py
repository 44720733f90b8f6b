"""Signal to noise in decibels, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.quantize.trial import answers, sqnr
from tests.quantize.graphs import feed, images, run, two_layers


def test_a_tenth_of_noise_is_twenty_decibels() -> None:
    signal = np.ones((4, 5))
    assert sqnr({"y": signal}, {"y": signal * 1.1}) == pytest.approx(20.0)


def test_each_output_counts_alike_whatever_its_scale() -> None:
    signal = {"a": np.ones(4), "b": np.full(4, 1000.0)}
    found = {"a": np.ones(4) * 1.1, "b": np.full(4, 1000.0)}
    assert sqnr(signal, found) == pytest.approx(20 + 10 * np.log10(2))


def test_equal_answers_are_120_decibels() -> None:
    assert sqnr({"y": np.ones(3)}, {"y": np.ones(3)}) == pytest.approx(120.0)


def test_answers_are_onnxruntimes_over_all_batches() -> None:
    model, given = two_layers(), images(70)
    assert np.allclose(answers(model, feed(given))["y"], run(model, given), atol=1e-5)
