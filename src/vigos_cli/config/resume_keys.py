"""Which keys may change when a run is resumed."""

from __future__ import annotations

# What a changed key means for a resumed run (resume=auto). The name of a group stands for all its keys.
# A change of a key in neither list is refused.
SAME_BYTES = (  # the adapter and all responses stay identical, byte for byte
    *("out", "resume", "plan", "card", "tracking", "judge", "compare", "bench.scorer"),
    *("rollout.url", "rollout.key_env", "rollout.concurrency", "rollout.timeout", "rollout.patience"),
    *("rollout.serve", "rollout.serve_command", "trainer.checkpoint_every", "trainer.dry_run"),
    "trainer.profile",
    "trainer.stop_on_collapse",  # of the steps that are taken
    *(
        "cells",
        "label",
        "reference",
        "repeat_over",
        "reuse",
        "palr_rows",
    ),  # of `vigos ablate`: these concern the sweep
)
SAME_UP_TO_ROUNDING = (  # another order of summation; with adapter.dropout, other units are dropped
    *("trainer.micro_batch", "trainer.micro_tokens", "trainer.gradient_checkpointing"),
    *("rollout.batch", "bench.batch", "loss.chunk"),
    "rollout.serve_flags",  # the server's weights are compared with the student's, up to another precision
    "trainer.shard",
    "workers",  # of `vigos ablate`: the threads of a cell depend on it
)


def on_resume(key: str) -> str:
    """What a change of this dotted key means for a resumed run.

    Returns "same bytes", "same up to rounding" or "another run".
    """
    names = {key, key.split(".")[0]}
    if not names.isdisjoint(SAME_BYTES):
        return "same bytes"
    return "another run" if names.isdisjoint(SAME_UP_TO_ROUNDING) else "same up to rounding"


def may_change(key: str) -> bool:
    """Whether this dotted key may have another value when a run is resumed."""
    return on_resume(key) != "another run"
