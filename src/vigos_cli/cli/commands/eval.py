"""`vigos eval`: ask a model, or an adapter, the items of benchmarks; or grade responses that are there."""

from __future__ import annotations

from vigos_cli.config.schema import EvalRun


def run(config: EvalRun) -> float | None:
    """Write responses, verdicts and scores, show a table, and return the first benchmark's main figure."""
    if len(config.compare) > 1:
        return _compare(config)
    from vigos_cli.evaluation.evaluate import evaluate
    from vigos_cli.models.out_of_memory import with_advice
    from vigos_cli.reporting.report import (
        main_figure,
        print_differences,
        print_judged,
        print_leakage,
        print_scores,
        print_table,
    )

    with with_advice(config):
        scores = evaluate(config)
    others = {name: figures for name, figures in scores.items() if name != "priorworld"}
    shown = "" if config.diagnostic == "none" else f", diagnostic {config.diagnostic}"
    if "priorworld" in scores:
        own = {config.adapter.path or config.model.name: scores["priorworld"]}
        print_table(own, f"eval, priorworld{shown}")
    print_scores(others, shown)
    print_judged(scores)
    print_leakage(scores)
    if config.compare:
        print_differences(scores, config.compare[0])
    print(f"verdicts, scores and a page of failures in {config.out}")
    return main_figure(next(iter(scores.values())))


def _compare(config: EvalRun) -> None:
    """Paired differences between two runs."""
    from pathlib import Path

    from rich.markdown import Markdown

    from vigos_cli.evaluation.run_comparison import compare_runs, write_comparison
    from vigos_cli.reporting.report import show

    text = write_comparison(compare_runs(config.compare), Path(config.out))
    show(Markdown(text), least=110)
    print(f"{config.compare[1]} against {config.compare[0]}; tables in {config.out}")
