"""Keep the libraries' own progress bars and notices out of a run's output."""

from __future__ import annotations

import os
import warnings


def quieten() -> None:
    """Before transformers is imported for the first time."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # What transformers says of its own coming versions concerns its callers' authors, not our users.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def quieten_hub() -> None:
    """Before a data set of the hub is read: that it is tried again, or is in the cache, is no news."""
    from datasets.utils import logging as of_datasets
    from huggingface_hub.utils import logging as of_hub

    of_datasets.set_verbosity_error()
    of_hub.set_verbosity_error()
