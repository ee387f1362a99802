"""Draw where ViGOS is ahead of OPSD and where it is behind, from sweeps of `+experiment=map`.

    python tests/tools/win_map.py runs/map runs/map_untrue runs/map_told --out map.png

One panel a base; a row for each pair of shares that any base has. Each point is the paired difference of the
two methods on the same questions, with its 95 % interval over questions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vigos_cli.ablation.arms import Arm, read_sweep
from vigos_cli.ablation.compare_arms import ArmRow, compare_arms
from vigos_cli.ablation.figure_style import COLOURS, error_bars, panels, shared_legend

METHOD, RIVAL = "vigos", "opsd_structured"
SHARES = ("data.conflict", "data.wrong_reference")
SHOWN = {  # measure: its name, marker and colour, and how far its points are from the middle of a row
    "score": ("Score", "o", COLOURS[2], -0.13),
    "description": ("Description true", "s", COLOURS[4], 0.13),
}


def pairs(sweep: Path) -> dict[tuple[str, ...], ArmRow]:
    """ViGOS compared with OPSD, for each pair of shares, in the order of the sweep."""
    results = read_sweep(sweep)
    arms: dict[tuple[str, ...], dict[str, Arm]] = {}
    for arm in results.arms:
        if arm.trained:
            settings = results.fixed | arm.settings
            shares = tuple(str(settings[key]) for key in SHARES)
            arms.setdefault(shares, {})[arm.settings["routing.name"]] = arm
    found = {}
    for shares, both in arms.items():
        if {METHOD, RIVAL} <= both.keys():
            _, row = compare_arms([both[RIVAL], both[METHOD]], both[RIVAL].label)
            found[shares] = row
    return found


def draw(sweeps: list[Path], titles: list[str], out: Path) -> None:
    """Draw the panels, and print the numbers as Markdown rows."""
    figure, axes = panels(1, len(sweeps), height=3.6, sharey=True)
    found = [pairs(sweep) for sweep in sweeps]
    places = list(dict.fromkeys(shares for rows in found for shares in rows))
    for axis, rows, title in zip(axes, found, titles, strict=True):
        for measure, (name, marker, colour, offset) in SHOWN.items():
            for shares, row in rows.items():
                if (change := row.differences["greedy"].get(measure)) is None:
                    continue
                axis.errorbar(
                    change.mean,
                    places.index(shares) + offset,
                    xerr=error_bars(change),
                    color=colour,
                    marker=marker,
                    linestyle="",
                    capsize=3,
                    label=name,
                )
                values = f"{change.mean:+.3f} [{change.low:+.2f}, {change.high:+.2f}] | {change.items}"
                print(f"| {title} | {shares[0]} | {shares[1]} | {name} | {values} |")
        axis.axvline(0, color="#888888", linewidth=0.8)
        axis.set(title=title, xlabel="ViGOS minus OPSD, same prompt (share)", xlim=(-1.05, 1.05))
    labels = [f"{float(a):.0%} contradicting,\n{float(b):.0%} wrong references" for a, b in places]
    axes[0].set_yticks(range(len(labels)), labels)
    axes[0].set_ylim(len(labels) - 0.5, -0.5)
    shared_legend(figure, axes)
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
