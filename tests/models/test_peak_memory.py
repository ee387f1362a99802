"""The peak memory of each phase is measured."""

from __future__ import annotations

import torch

from vigos_cli.models.peak_memory import PhasePeaks


def test_each_phase_has_its_own_peak():
    peaks = PhasePeaks(torch.device("cpu"))
    with peaks.of("outer"):
        with peaks.of("large"):
            torch.zeros(64 * 2**20 // 4).add_(1)
        with peaks.of("small"):
            pass
    assert peaks.bytes["large"] - peaks.bytes["small"] > 32 * 2**20
    assert peaks.bytes["outer"] >= peaks.bytes["large"]
