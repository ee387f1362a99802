"""Messages that cannot be written do not end a run."""

import os

import pytest

from vigos_cli.utils.standard_output import lossy


def test_a_closed_pipe_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    with lossy(writer, "utf-8") as file:
        for _ in range(3):
            print("x" * 100_000, file=file)
            file.flush()
    os.close(writer)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has /dev/full")
def test_a_full_disk_is_no_error(tmp_path):
    with open("/dev/full", "wb") as full, lossy(full.fileno(), "utf-8") as file:
        print("x", file=file)
        file.flush()
        print("y", file=file)


def test_other_errors_are_raised(tmp_path):
    (tmp_path / "a").touch()
    read_only = os.open(tmp_path / "a", os.O_RDONLY)
    file = lossy(read_only, "utf-8")
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.write("x" * 100_000)
    file.detach().detach()  # type: ignore[attr-defined]
    os.close(read_only)


def test_characters_outside_the_encoding_are_shown_by_their_numbers(tmp_path):
    number = os.open(tmp_path / "a", os.O_WRONLY | os.O_CREAT)
    with lossy(number, "ascii") as file:
        print("a \u2192 \u00e4", file=file)
    os.close(number)
    assert (tmp_path / "a").read_bytes() == b"a \\u2192 \\xe4\n"
