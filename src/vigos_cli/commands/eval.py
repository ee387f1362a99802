"""`vigos eval`: ask a model, or an adapter, the items of benchmarks; or grade responses that are there."""

from __future__ import annotations

from vigos_cli.config import EvalRun


def run(config: EvalRun) -> float | None:
    """Write responses, verdicts and scores, show a table, and return the first benchmark's main figure."""
    if config.compare:
        return _compare(config)
    from vigos_cli.bench.evaluate import evaluate
    from vigos_cli.report import main_figure, print_judged, print_scores, print_table

    scores = evaluate(config)
    others = {name: figures for name, figures in scores.items() if name != "priorworld"}
    if "priorworld" in scores:
        print_table({config.adapter.path or config.model.name: scores["priorworld"]}, "eval, priorworld")
    print_scores(others)
    print_judged(scores)
    print(f"verdicts and scores in {config.out}")
    return main_figure(next(iter(scores.values())))


def _compare(config: EvalRun) -> None:
    """Paired differences between two runs."""
    from pathlib import Path

    from rich.markdown import Markdown

    from vigos_cli.bench.compare import compare, write
    from vigos_cli.report import show

    text = write(compare(config.compare), Path(config.out))
    show(Markdown(text), least=110)
    print(f"{config.compare[1]} against {config.compare[0]}; tables in {config.out}")
