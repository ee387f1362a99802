"""The rows of a benchmark, from the hub, a folder or a file.

>>> task = BenchTask(path="items.jsonl")
>>> rows, reader = open_rows(registry.get("mathvista"), task)
>>> samples, reader = read_samples(registry.get("mathvista"), task, images=False)

A picture is read when its sample is made.

A folder may be a copy of the hub's repository. Of its parquet files (of its JSON lines if there are none),
those are read whose names begin with the split. If a folder has the name of the config, only files below it
are read. If there is only one file, it is read whatever its name is.

A JSON file may also be one object whose values are the rows, such as MathVista's own `data/testmini.json`.

From the hub, one commit is read: that of the revision or of the default branch. It is stored in
`RowReader.revision`. If the hub does not answer, a cached copy is read at once; without a copy the run stops.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from vigos_cli.config.schema import BenchTask
from vigos_cli.data.file_kinds import LINES, PARQUET, refuse_other_kind
from vigos_cli.data.rows import Arrow, Lines, refuse_empty_table, table_fault
from vigos_cli.evaluation.interface import Bench
from vigos_cli.evaluation.keyed_rows import KeyedRows, keyed_rows
from vigos_cli.evaluation.row_parsing import shown
from vigos_cli.evaluation.row_reader import Row, RowReader
from vigos_cli.types import Sample
from vigos_cli.utils.errors import ConfigError, UserError, nearest, one_line
from vigos_cli.utils.quiet import quieten_hub, quieten_tables

COMMIT = re.compile(r"[0-9a-f]{40}")
PATIENCE = 10  # seconds to wait for the hub before it counts as unreachable


class Chain(Sequence[Row]):
    """Several tables as one sequence of rows."""

    def __init__(self, tables: Sequence[Lines | Arrow | KeyedRows]):
        self.tables = tables
        self.names = list(dict.fromkeys(name for table in tables for name in table.names))

    def __len__(self) -> int:
        return sum(map(len, self.tables))

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]
        for table in self.tables:
            if index < len(table):
                return table[index]
            index -= len(table)
        raise IndexError(index)


def read_samples(
    bench: Bench,
    task: BenchTask,
    *,
    images: bool = True,
    limit: int | None = None,
    ids: Sequence[str] = (),
) -> tuple[Iterator[Sample], RowReader]:
    """The samples, one at a time, and their reader. See `open_rows` for the errors.

    With `ids`, only these items are returned, and only the pictures of their rows are read. Raises UserError
    if two items have the same id, because responses are matched to items by id.
    """
    rows, reader = open_rows(bench, task)
    reader.rows, reader.limit = len(rows), len(ids) or limit
    if not ids:
        reader.images = images
        samples = samples_with_ids(bench.name, bench.id_column, bench.samples(rows, reader), ids)
        return islice(samples, limit), reader
    look = replace(reader, images=False, left_out={})
    found = samples_with_ids(bench.name, bench.id_column, bench.samples(rows, look), ids)
    only = list(dict.fromkeys(look.at for _ in found))
    reader.images = images
    samples = (sample for sample in bench.samples(rows, reader, only) if sample.id in ids)
    return islice(samples, limit), reader


def samples_with_ids(
    name: str, id_column: str, samples: Iterator[Sample], ids: Sequence[str]
) -> Iterator[Sample]:
    """The samples with these ids; all samples if `ids` is empty.

    Raises UserError for an id that no sample has, or that two samples have.
    """
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise UserError(f"{name}: two items have the {id_column} {shown(sample.id)}")
        seen.add(sample.id)
        if not ids or sample.id in ids:
            yield sample
    if absent := [id for id in ids if id not in seen]:
        hint = nearest(absent[0], seen)
        raise UserError(f"{name}: there is no item {absent[0]}; {hint}the ids are values of {id_column}")


def open_rows(bench: Bench, task: BenchTask) -> tuple[Sequence[Row], RowReader]:
    """The rows and their reader, which knows the folder of the pictures, the columns and the commit.

    Raises UserError if there are no rows, if a column is missing, or if the hub cannot be reached; then the
    message says what to download.
    """
    commit = None
    if task.path:
        rows, folder = _local(bench, task, Path(task.path))
    elif task.hub:
        rows, folder, commit = _hub(bench, task, task.hub)
    else:
        rows, folder = bench.own_rows()
        return rows, RowReader(folder)
    if not rows.names:
        raise UserError(f"{bench.name}: {task.path or task.hub}: the data has no rows")
    absent = [column for column in bench.columns if column not in rows.names]
    if absent:
        there = ", ".join(rows.names[:12])
        hint = nearest(absent[0], rows.names)
        raise UserError(f"{bench.name}: no column {absent[0]!r}; {hint}there are {there or 'no rows'}")
    return rows, RowReader(folder, columns=tuple(rows.names), revision=commit)


# ---------------------------------------------------------------- files


def _local(bench: Bench, task: BenchTask, path: Path) -> tuple[Chain, Path]:
    try:
        there = path.exists()
    except OSError as error:  # such as a name that is too long
        raise ConfigError(f"{bench.name}: {str(path)[:200]}: {error.strerror}") from error
    if path.is_dir():
        if bench.rows_file:
            for file in (path / bench.rows_file, path / Path(bench.rows_file).name):
                if file.is_file():
                    return Chain([_file(file)]), file.parent
            raise UserError(f"{bench.name}: there is no {Path(bench.rows_file).name} in {path}")
        files = _files(bench.name, path, _splits(task), _configs(task))
        return Chain([_file(file) for file in files]), path
    if not path.is_file():
        what = "a pipe or a device is no file of rows" if there else "there is no such file or folder"
        raise ConfigError(f"{bench.name}: {path}: {what}")
    return Chain([_file(path)]), path.parent


def _file(path: Path) -> Lines | Arrow | KeyedRows:
    refuse_other_kind("bench.path", path)
    if path.suffix.lower() in LINES:
        rows = keyed_rows(path) or Lines(path)
        if not rows.names and isinstance(rows, Lines) and rows.fault:
            raise UserError(f"{path}: {rows.fault}")
        return rows
    refuse_empty_table("bench.path", path)
    pattern = glob.escape(str(path))
    return _table(
        f"{path}", lambda datasets: datasets.load_dataset("parquet", data_files=pattern, split="train")
    )


def _splits(task: BenchTask) -> list[str]:
    return (task.split or "train").split("+")


def _configs(task: BenchTask) -> list[str]:
    return (task.config or "").split("+")


def _files(name: str, folder: Path, splits: list[str], configs: list[str]) -> list[Path]:
    """The files of a folder that contain the splits, in the order of the splits."""
    for suffixes in (PARQUET, LINES):
        files = sorted(
            file for file in folder.rglob("*") if file.suffix.lower() in suffixes and file.is_file()
        )
        chosen = [file for file in files if set(file.relative_to(folder).parts) & set(configs)] or files
        if len(files) == 1:
            return files
        parts = [_of_split(chosen, split) for split in splits]
        if all(parts):
            return [file for part in parts for file in part]
        if files:
            some = ", ".join(str(file.relative_to(folder)) for file in files[:4])
            raise UserError(
                f"{name}: no file of the split {'+'.join(splits)} in {folder}; choose a file, such as {some}"
            )
    raise UserError(f"{name}: {folder} contains no parquet and no JSON lines file")


def _of_split(files: list[Path], split: str) -> list[Path]:
    """The files of a split: `test-00000.parquet`, `test.parquet`, else `test_2d.parquet`, not `testmini`."""
    for after in ("[-.]", "_"):
        if found := [file for file in files if re.match(re.escape(split) + after, file.name)]:
            return found
    return []


# ---------------------------------------------------------------- hub


def _hub(bench: Bench, task: BenchTask, hub: str) -> tuple[Chain, Path, str | None]:
    """The rows, the folder and the commit of a data set of the hub."""
    quieten_hub()
    revision = task.revision
    at = f" --revision {revision}" if revision else ""
    fetch = (
        f"on a machine with a network: hf download {hub} --repo-type dataset{at} --local-dir FOLDER; "
        f"then set bench.tasks.{bench.name}.path=FOLDER"
    )
    commit, silent = _commit(hub, revision)
    with _offline() if silent else nullcontext():
        try:
            if bench.rows_file:
                rows, folder, cached = _snapshot(hub, bench.rows_file, commit or revision)
            else:
                rows, folder, cached = _tables(hub, task, commit or revision)
        except UserError as error:
            why = f"{hub} could not be read: {silent}, and there is no complete copy of it in the cache"
            raise UserError(f"{why if silent else error}; download it {fetch}") from error
    named = revision and re.fullmatch(r"[0-9a-f]{7,40}", revision)
    if silent and named and not (cached or "").startswith(named[0]):
        raise UserError(f"{hub}: {silent}, and the cached copy has the commit {cached}; download it {fetch}")
    return rows, folder, commit or cached or revision


def _commit(hub: str, revision: str | None) -> tuple[str | None, str]:
    """The commit of a revision; None and the reason if the hub does not answer.

    Raises UserError for an unknown data set or revision.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        return HfApi().dataset_info(hub, revision=revision, timeout=PATIENCE).sha, ""
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise UserError(f"{hub} could not be read: {one_line(error, 160)}") from error
    except Exception as error:  # without a network: the error type depends on the hub library's version
        return None, f"the hub does not answer ({one_line(error, 160)})"


@contextmanager
def _offline() -> Iterator[None]:
    """Use only the cache; otherwise the hub's library would retry for half a minute."""
    import datasets.config
    from huggingface_hub import constants

    places: list[Any] = [datasets.config, constants]
    before = [place.HF_HUB_OFFLINE for place in places]
    try:
        for place in places:
            place.HF_HUB_OFFLINE = True
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value


def _tables(hub: str, task: BenchTask, revision: str | None) -> tuple[Chain, Path, str | None]:
    """All configs and splits, read by `datasets`, and their commit according to its cache."""
    from datasets.config import HF_CACHE_HOME

    tables = [
        _table(
            hub,
            lambda datasets, config=config, split=split: datasets.load_dataset(
                hub, config or None, split=split, revision=revision
            ),
        )
        for config in _configs(task)
        for split in _splits(task)
    ]
    folders = [Path(file["filename"]).parent.name for one in tables for file in one.table.cache_files]
    commits = {folder for folder in folders if COMMIT.fullmatch(folder)}
    if len(commits) > 1:
        raise UserError(f"{hub} could not be read: its parts in the cache come from several commits")
    return Chain(tables), Path(HF_CACHE_HOME), min(commits, default=None)


def _snapshot(hub: str, rows_file: str, revision: str | None) -> tuple[Chain, Path, str | None]:
    """A repository of files, and its commit."""
    from huggingface_hub import snapshot_download

    try:
        root = Path(snapshot_download(hub, repo_type="dataset", revision=revision))
    except (OSError, ValueError, RuntimeError) as error:  # its errors derive from all three
        raise UserError(f"{hub} could not be read: {one_line(error, 160)}") from error
    file = root / rows_file
    return Chain([Lines(file)]), file.parent, root.name if COMMIT.fullmatch(root.name) else None


def _table(what: str, load: Callable[[Any], Any]) -> Arrow:
    """The table that `load` reads with the library `datasets`. Raises UserError if this fails."""
    import datasets
    from datasets.exceptions import DatasetsError

    quieten_tables()
    try:
        return Arrow(load(datasets))
    except (OSError, ConnectionError, ValueError, RuntimeError, DatasetsError) as error:
        raise UserError(f"{what} could not be read: {table_fault(error)}") from error
