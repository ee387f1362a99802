"""`vigos merge`: merge an adapter into its base model."""

from __future__ import annotations

from vigos_cli.config.schema import MergeRun
from vigos_cli.utils.errors import UserError
from vigos_cli.utils.heavy_imports import heavy_imports
from vigos_cli.utils.machine_errors import is_out_of_memory
from vigos_cli.utils.quiet import quieten


def run(config: MergeRun) -> None:
    """Write the merged model, and print how far it differs from base and adapter."""
    with heavy_imports():
        quieten()
        from vigos_cli.models.merge import merge

    try:
        report = merge(config)
    except Exception as error:
        if is_out_of_memory(error):
            raise UserError("out of memory while the adapter was merged: try model.device=cpu") from error
        raise
    print(
        f"merged model in {config.out}: on {report.tokens} tokens it differs from base and adapter by "
        f"{report.mean_kl:.2g} nats per token on average, at most by {report.largest_kl:.2g}"
    )
