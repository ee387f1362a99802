"""`vigos eval`: evaluate a model or an adapter on benchmarks, or grade saved responses."""

from __future__ import annotations

from pathlib import Path

from vigos_cli.config.schema import EvalRun


def run(config: EvalRun) -> float | None:
    """Write responses, verdicts and scores, and return the main figure of the first benchmark."""
    if len(config.compare) > 1:
        return _compare(config)
    from vigos_cli.evaluation.evaluate import evaluate
    from vigos_cli.evaluation.evaluation_report import PAGE
    from vigos_cli.models.out_of_memory import with_advice
    from vigos_cli.reporting.measures import main_figure
    from vigos_cli.reporting.terminal_tables import (
        print_differences,
        print_draws,
        print_judged,
        print_leakage,
        print_priorworld_table,
        print_scores,
    )

    with with_advice(config):
        scores = evaluate(config)
    others = {name: figures for name, figures in scores.items() if name != "priorworld"}
    shown = "" if config.diagnostic == "none" else f", diagnostic {config.diagnostic}"
    if "priorworld" in scores:
        own = {config.adapter.path or config.model.name: scores["priorworld"]}
        print_priorworld_table(own, f"eval, priorworld{shown}")
    print_scores(others, shown)
    print_draws(scores, shown)
    print_judged(scores)
    print_leakage(scores)
    if config.compare:
        found = [row for one in scores.values() for row in one.get("against", {}).get("differences", ())]
        print_differences(found, f"paired differences from {config.compare[0]}")
    print(f"{config.out} contains verdicts and scores; open in a browser:")
    for name in scores:
        print(Path(config.out, name if len(scores) > 1 else "", PAGE))
    return main_figure(next(iter(scores.values())))


def _compare(config: EvalRun) -> None:
    """Write and show the paired differences between two runs."""
    from rich.markdown import Markdown

    from vigos_cli.evaluation.run_comparison import compare_runs, write_comparison
    from vigos_cli.reporting.terminal_tables import print_wide

    text = write_comparison(compare_runs(config.compare), Path(config.out))
    print_wide(Markdown(text), least=110)
    print(f"{config.compare[1]} compared with {config.compare[0]}; the tables are in {config.out}")
