"""Draw where ViGOS is ahead of OPSD and where it is behind, from sweeps of `+experiment=map`.

    python tests/tools/win_map.py runs/map runs/map_untrue --out map.png

One panel a base; a row for each pair of shares. Each point is the paired difference of the two methods on the
same questions, with its 95 % interval over questions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vigos_cli.ablation.arms import Arm, read_sweep
from vigos_cli.ablation.compare_arms import ArmRow, compare_arms
from vigos_cli.ablation.figure_style import COLOURS, panels

METHOD, RIVAL = "vigos", "opsd_structured"
SHARES = ("data.conflict", "data.wrong_reference")
SHOWN = {"score": ("Score", "o"), "description": ("Description true", "s")}


def pairs(sweep: Path) -> list[tuple[tuple[str, ...], ArmRow]]:
    """ViGOS compared with OPSD, for each pair of shares, in the order of the sweep."""
    arms: dict[tuple[str, ...], dict[str, Arm]] = {}
    for arm in read_sweep(sweep).arms:
        if arm.trained:
            shares = tuple(str(arm.settings.get(key)) for key in SHARES)
            arms.setdefault(shares, {})[arm.settings["routing.name"]] = arm
    found = []
    for shares, both in arms.items():
        if {METHOD, RIVAL} <= both.keys():
            _, row = compare_arms([both[RIVAL], both[METHOD]], both[RIVAL].label)
            found.append((shares, row))
    return found


def draw(sweeps: list[Path], titles: list[str], out: Path) -> None:
    """Draw the panels, and print the numbers as Markdown rows."""
    figure, axes = panels(1, len(sweeps), height=3.6, sharey=True)
    for axis, sweep, title in zip(axes, sweeps, titles, strict=True):
        labels = []
        for place, (shares, row) in enumerate(pairs(sweep)):
            labels.append(f"{shares[0]} contradicting\n{shares[1]} wrong references")
            for index, (measure, (name, marker)) in enumerate(SHOWN.items()):
                if (change := row.differences["greedy"].get(measure)) is None:
                    continue
                axis.errorbar(
                    change.mean,
                    place + (-0.13, 0.13)[index],
                    xerr=[[change.mean - change.low], [change.high - change.mean]],
                    color=COLOURS[(2, 4)[index]],
                    marker=marker,
                    capsize=3,
                    label=name if place == 0 else None,
                )
                values = f"{change.mean:+.3f} [{change.low:+.2f}, {change.high:+.2f}] | {change.items}"
                print(f"| {title} | {shares[0]} | {shares[1]} | {name} | {values} |")
        axis.axvline(0, color="#888888", linewidth=0.8)
        axis.set(title=title, xlabel="ViGOS minus OPSD, same prompt (share)", xlim=(-1.05, 1.05))
        axis.set_yticks(range(len(labels)), labels)
        axis.set_ylim(len(labels) - 0.5, -0.5)
    axes[0].legend(loc="lower left", frameon=False)
    figure.savefig(out, dpi=110)


def main() -> None:
    """Draw the map."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweeps", type=Path, nargs="+")
    parser.add_argument("--titles", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    draw(args.sweeps, args.titles or [sweep.name for sweep in args.sweeps], args.out)


if __name__ == "__main__":
    main()
