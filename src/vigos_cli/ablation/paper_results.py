"""Results of the paper (arXiv 2606.19120) for arms that a sweep may also contain.

The paper used other models, other questions and another scale, so only the order of arms can be compared.
"""

from __future__ import annotations

from vigos_cli.ablation.arms import Arm

PAPER_COLUMNS = (
    "Table A.II: Qwen2.5-VL 3B, structured prompt, Pass@5 / Avg@5 in %",
    "Figure 4: ViLP Score / Prior of the base under this prompt",
)
PAPER_RESULTS: dict[str, tuple[str, str]] = {
    "vigos": ("71.97 / 41.35", ""),
    "opsd_structured": ("70.13 / 37.20", ""),
    "untrained, structured prompt": ("71.05 / 39.83", "0.687 / 0.887"),
    "untrained, think prompt": ("", "0.56 / 0.81"),
}

PAPER_PALR_COLUMNS = ("3B, reasoning+answer", "3B, turn", "7B, reasoning+answer", "7B, turn")
# Figure 2, on the untrained student's rollouts, in %
PAPER_PALR: dict[str, tuple[float, float, float, float]] = {
    "OPSD": (17.26, 5.59, 26.01, 7.55),
    "ViGOS": (6.33, 3.07, 7.56, 3.72),
}


def paper_results(arm: Arm) -> tuple[str, str] | None:
    """The paper's results for an arm; None if more than the routing differs from the method's recipe."""
    if not arm.trained:
        return PAPER_RESULTS.get(arm.label)
    config = arm.runs[0].summary["config"]
    recipe = {config["loss"]["name"], config["loss"]["divergence"], config["teacher"]["weights"]}
    if recipe != {"vigos", "forward_kl", "base"} or any(
        not key.startswith("routing.") for key in arm.settings
    ):
        return None
    return PAPER_RESULTS.get(config["routing"]["name"])
