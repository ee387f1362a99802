"""The report of the GPU checks, `gpu-report.md`: figures in tables, and what passed.

>>> report = Report("Qwen2-VL 2B, true size")
>>> report.put("Machine and versions", "device", value="NVIDIA L4")
>>> report.missing()                # the fields that nothing has filled
>>> Path("gpu-report.md").write_text(report.markdown())
"""

from __future__ import annotations

from dataclasses import dataclass, field

EMPTY = "MISSING"
MACHINE, MEMORY, SPEED, GRADIENTS, OTHER = (
    "Machine and versions",
    "Peak memory, GiB",
    "Speed",
    "One step of a small twin, beside float32 on the CPU",
    "Other figures",
)
VERSIONS = ("vigos", "torch", "transformers", "peft", "bitsandbytes", "hydra-core", "numpy", "pillow")
TEACHERS = ("perception", "reasoning", "fallback")
SPEEDS = ("rollout", "teachers", "learn")
PHASES = {  # the name of a phase in the code -> its row
    "weights": "weights and adapter",
    "rollout": "rollout",
    "teachers": "teachers",
    "learn": "student: forward, backward, step",
    "loss": "of which loss",
    "evaluate": "evaluation",
}
TABLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # title -> rows and columns
    MACHINE: (
        (
            "device",
            "compute capability",
            "memory",
            "driver",
            "CUDA of torch",
            "bitsandbytes computes with",
            "system",
            "vigos commit",
            *VERSIONS,
        ),
        ("value",),
    ),
    MEMORY: (
        (*PHASES.values(), "largest phase", "context and libraries", "together"),
        ("planned", "dry run", "run", "dry run / planned"),
    ),
    SPEED: (
        SPEEDS,
        ("seconds, first step", "seconds, second step", "sampled tokens a second", "seconds, dry run"),
    ),
    GRADIENTS: ((*TEACHERS, "gradient, its norm"), ("here", "float32 on the CPU", "relative difference")),
    OTHER: (
        (
            "parameters",
            "dtype of the model",
            "dtype of the twin",
            "4-bit layers",
            "loss of the three steps",
            "gradient norm",
            "largest weight of the adapter that started at 0",
            "frozen weights, sha256",
            "dtypes of the optimizer's moments",
            "paged tensors of the optimizer",
            "optimizer: largest difference after a resume",
            "gradient: cosine with that of the CPU",
            "answers of `vigos eval` equal to those of the run",
            "merge: nats per token, mean",
            "seconds in all",
        ),
        ("value",),
    ),
}


@dataclass(frozen=True)
class Outcome:
    """What one check found."""

    name: str
    error: str | None  # None: passed
    seconds: float


@dataclass
class Report:
    """The figures and outcomes so far."""

    size: str
    cells: dict[tuple[str, str, str], str] = field(default_factory=dict)  # table, row, column -> text
    outcomes: list[Outcome] = field(default_factory=list)

    def put(self, table: str, row: str, **values: object) -> None:
        """Fill cells of a row; the name of a column may have `_` for a blank. Numbers get four digits."""
        rows, columns = TABLES[table]
        assert row in rows, row
        named = {column.replace(" ", "_").replace(",", "").replace("/", "by"): column for column in columns}
        for name, value in values.items():
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            self.cells[table, row, named[name]] = text

    def missing(self) -> list[str]:
        """The cells that are empty, as `table: row: column`."""
        return [
            f"{table}: {row}: {column}"
            for table, (rows, columns) in TABLES.items()
            for row in rows
            for column in columns
            if not self.cells.get((table, row, column), "").strip()
        ]

    @property
    def failed(self) -> list[Outcome]:
        """The checks that did not pass."""
        return [outcome for outcome in self.outcomes if outcome.error is not None]

    def markdown(self) -> str:
        """The whole report."""
        passed = len(self.outcomes) - len(self.failed)
        lines = [f"# GPU report: {self.size}", "", f"{passed} of {len(self.outcomes)} checks passed.", ""]
        lines += _table(
            ("check", "result", "seconds", "message"),
            [
                (
                    one.name,
                    "passed" if one.error is None else "FAILED",
                    f"{one.seconds:.0f}",
                    one.error or "-",
                )
                for one in self.outcomes
            ],
        )
        for table, (rows, columns) in TABLES.items():
            cells = [
                (row, *(self.cells.get((table, row, column), EMPTY) for column in columns)) for row in rows
            ]
            lines += ["", f"## {table}", "", *_table(("", *columns), cells)]
        return "\n".join([*lines, ""])


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """A Markdown table; bars and line breaks inside a cell are replaced."""
    lines = [head, ("---",) * len(head), *rows]
    return [
        "| " + " | ".join(" ".join(cell.replace("|", "/").split()) for cell in line) + " |" for line in lines
    ]
