"""Which keys may change when a run is resumed."""

from __future__ import annotations

# What a changed key means for a run that goes on (resume=auto). The name of a group stands for all its keys.
# A key that stands in neither list makes another run.
SAME_BYTES = (  # the adapter and every response stay the same, byte for byte
    *("out", "resume", "plan", "card", "tracking", "judge", "compare", "bench.scorer"),
    *("rollout.url", "rollout.key_env", "rollout.concurrency", "rollout.timeout", "rollout.patience"),
    *("trainer.checkpoint_every", "trainer.dry_run"),
    *("cells", "label", "reference", "reuse", "palr_rows"),  # of `vigos ablate`: about the sweep, not a cell
)
SAME_UP_TO_ROUNDING = (  # sums are taken in another order; with adapter.dropout other units are dropped
    *("trainer.micro_batch", "rollout.batch", "bench.batch", "loss.chunk", "trainer.gradient_checkpointing"),
)


def on_resume(key: str) -> str:
    """What a change of this dotted key means for a run that goes on.

    One of "same bytes", "same up to rounding" and "another run".
    """
    names = {key, key.split(".")[0]}
    if not names.isdisjoint(SAME_BYTES):
        return "same bytes"
    return "another run" if names.isdisjoint(SAME_UP_TO_ROUNDING) else "same up to rounding"


def may_change(key: str) -> bool:
    """Whether a run that goes on may have another value for this dotted key than it was started with."""
    return on_resume(key) != "another run"
