"""Keep messages of libraries that a user cannot act on out of a run's output."""

from __future__ import annotations

import logging
import os
import warnings

_OPTIONAL_KERNEL = "Failed to load CPU gemm_4bit_forward from kernels-community"


def quieten() -> None:
    """Silence progress bars and notices of transformers, and one warning of bitsandbytes.

    Call it before transformers, peft or bitsandbytes are imported for the first time.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # transformers announces changes of coming versions, for example to gradient_checkpointing_enable.
    # Only programmers can act on these.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
    # On a CPU with AVX512-BF16, bitsandbytes asks for the package `kernels` when it is imported, with or
    # without nf4. vigos does not use that kernel: it sets support_avx512bf16_for_cpu to False.
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_is_other_message)
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def _is_other_message(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_OPTIONAL_KERNEL)


def quieten_hub() -> None:
    """Silence the notices of `datasets` and `huggingface_hub` about retries and the cache."""
    from huggingface_hub.utils import logging as hub_logging

    quieten_tables()
    hub_logging.set_verbosity_error()


def quieten_tables() -> None:
    """Silence the notices of `datasets`, also those about a file that cannot be read: vigos says that."""
    from datasets.utils import logging as datasets_logging

    datasets_logging.set_verbosity(logging.CRITICAL)
