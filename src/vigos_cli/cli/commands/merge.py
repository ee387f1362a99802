"""`vigos merge`: one model from a base and an adapter."""

from __future__ import annotations

from vigos_cli.config.schema import MergeRun
from vigos_cli.utils.quiet import quieten


def run(config: MergeRun) -> None:
    """Write the merged model and say how it was checked."""
    quieten()
    from vigos_cli.models.merge import merge

    report = merge(config)
    print(
        f"merged model in {config.out}: over {report.tokens} tokens it differs from base and adapter by "
        f"{report.mean_kl:.2g} nats a token, at most {report.largest_kl:.2g}"
    )
