"""The peak memory of each phase is measured."""

from __future__ import annotations

import mmap

import torch

from vigos_cli.models.peak_memory import PhasePeaks, peak_gib


def fill(mib: int) -> None:
    """Write to new pages, and give them back; the heap could hand out pages that are in memory already."""
    with mmap.mmap(-1, mib * 2**20) as pages:
        pages.write(b"x" * len(pages))


def test_each_phase_has_its_own_peak():
    peaks = PhasePeaks(torch.device("cpu"))
    with peaks.of("outer"):
        with peaks.of("large"):
            fill(64)
        with peaks.of("small"):
            pass
    assert peaks.bytes["large"] - peaks.bytes["small"] > 32 * 2**20
    assert peaks.bytes["outer"] >= peaks.bytes["large"]


def test_measuring_a_phase_does_not_lower_the_peak_so_far():
    """A profile measures phases in the middle of a run, whose `peak_gib` is that of all its steps."""
    device = torch.device("cpu")
    fill(128)
    before = peak_gib(device)
    with PhasePeaks(device).of("small"):
        pass
    assert peak_gib(device) >= before
