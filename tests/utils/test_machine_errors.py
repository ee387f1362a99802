"""Faults of the machine are one line that names the file or the folder and says what to do."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from vigos_cli.data.images import BadRow
from vigos_cli.data.read_image import read_image
from vigos_cli.training.checkpoint import saved_steps
from vigos_cli.utils import machine_errors
from vigos_cli.utils.errors import UserError
from vigos_cli.utils.files import read_tensors
from vigos_cli.utils.machine_errors import explained, machine_error

OUT = Path("/runs/a")


def failed(number: int, *file: str) -> OSError:
    return OSError(number, os.strerror(number), *file)


@pytest.mark.parametrize(
    ("error", "named", "said"),
    [
        (failed(errno.ENOSPC), "/runs/a: ", "the disk is full: make space, then repeat"),
        (failed(errno.ENOSPC, "/runs/a/x"), "/runs/a/x: ", "the disk is full"),
        (failed(errno.EACCES, "/data/x"), "/data/x: ", "no permission"),
        (failed(errno.EROFS, "/data/x"), "/data/x: ", "can only be read"),
        (failed(errno.EFBIG), "/runs/a: ", "ulimit -f"),
        (failed(errno.EMFILE, "/data/x"), "/data/x: ", "ulimit -n"),
        (failed(errno.EIO), "/runs/a: ", "Input/output error"),
        (failed(errno.ENOENT, "/runs/a/adapter"), "/runs/a/adapter: ", "was removed while the run used it"),
        (RuntimeError("can't start new thread"), "no more threads", "ulimit -u"),
        (MemoryError(), "out of memory", "ulimit -v"),
        (ImportError("x.so: failed to map segment from shared object"), "out of memory", "ulimit -v"),
        (RuntimeError("PytorchStreamWriter failed: [Errno 28] No space"), "/runs/a: ", "the disk is full"),
    ],
)
def test_a_fault_of_the_machine_is_named(error, named, said):
    line = machine_error(error, OUT)
    assert line and line.startswith(named) and said in line and "\n" not in line


@pytest.mark.parametrize(
    "error",
    [
        failed(errno.ENOENT, "/data/x"),  # a file that was never there, such as one that a user has mistyped
        ValueError("[Errno 28] No space left on device"),  # a text that data or a server may contain
        RuntimeError("shapes cannot be multiplied"),
        KeyError("x"),
    ],
)
def test_other_errors_are_not_blamed_on_the_machine(error):
    assert machine_error(error, OUT) is None
    assert explained(error, OUT) is error


def test_an_error_that_was_raised_from_a_fault_is_explained_by_it():
    try:
        try:
            raise failed(errno.ENOSPC)
        except OSError as error:
            raise ValueError("the page was not written") from error
    except ValueError as error:
        assert str(explained(error, OUT)).startswith("/runs/a: the disk is full")


def test_safetensors_names_the_fault_in_its_message_only(tmp_path):
    gone = tmp_path / "gone"
    with pytest.raises(Exception) as raised:
        save_file({"a": torch.zeros(2)}, gone / "a.safetensors")
    line = machine_error(raised.value, tmp_path)
    assert line and str(gone) in line and "was removed" in line


def test_temporary_files_on_another_full_disk_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/other")
    monkeypatch.setattr(machine_errors, "_is_full", lambda folder: folder == Path("/other"))
    line = machine_error(failed(errno.ENOSPC), tmp_path)
    assert line and line.startswith("/other (temporary files; set TMPDIR")


def test_tensors_that_cannot_be_read_are_not_called_damaged(tmp_path):
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_tensors(tmp_path)
    (tmp_path / "a").write_bytes(b"no tensors")
    with pytest.raises(UserError, match="damaged or incomplete"):
        read_tensors(tmp_path / "a")


def test_checkpoints_that_cannot_be_listed_are_not_taken_for_none(tmp_path, monkeypatch):
    (tmp_path / "step-000002").mkdir()
    assert saved_steps(tmp_path) == [tmp_path / "step-000002"] and saved_steps(tmp_path / "none") == []

    def refuse(folder):
        raise failed(errno.EACCES, str(folder))

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(PermissionError):
        saved_steps(tmp_path)


def test_a_folder_of_pictures_that_was_removed_is_no_fault_of_its_rows(tmp_path):
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "pictures" / "a.png")
    assert read_image("pictures/a.png", tmp_path).size == (2, 2)
    with pytest.raises(BadRow, match="image_not_found"):
        read_image("pictures/b.png", tmp_path)
    (tmp_path / "pictures" / "a.png").unlink()
    (tmp_path / "pictures").rmdir()
    with pytest.raises(UserError, match="pictures was removed while the run used it"):
        read_image("pictures/a.png", tmp_path)
    with pytest.raises(BadRow, match="image_not_found"):
        read_image("never/a.png", tmp_path)


def test_a_folder_of_pictures_that_this_user_may_not_enter_is_named(tmp_path, monkeypatch):
    def refuse(path: Any) -> Any:
        raise failed(errno.EACCES, str(path))

    monkeypatch.setattr(os, "stat", refuse)  # root may enter every folder
    with pytest.raises(UserError, match=rf"no permission to read the folder {tmp_path}"):
        read_image("a.png", tmp_path)


def test_a_picture_that_the_machine_cannot_read_is_not_left_out_as_a_bad_row(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(BadRow, match="image_unreadable"):
        read_image("a.png", tmp_path)

    def no_more_files(path):
        raise failed(errno.EMFILE, str(path))

    monkeypatch.setattr(Path, "read_bytes", no_more_files)
    with pytest.raises(OSError, match="Too many open files"):
        read_image("a.png", tmp_path)
