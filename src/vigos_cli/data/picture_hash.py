"""Short descriptions of pictures, to find the same picture again at another size or quality.

    one, other = picture_hash(image), picture_hash(half_size_jpeg)
    bit_distances([one], [other])           # array([[1.]]): one of the 64 bits differs
    looks_same([one], [other])              # array([True])

A `PictureHash` has two parts. `bits` is the 64-bit difference hash: the picture is reduced to 9 x 8 grey
values, and each bit says whether a value is larger than its left neighbour. Two copies of a picture differ in
at most `NEAR` bits. Photographs that differ are further apart, but drawings on a white page often are not.
`grey` is the picture reduced to 16 x 16 grey values. With it, `looks_same` tells two drawings apart that have
near bits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from PIL import Image

from vigos_cli.data.images import usable
from vigos_cli.utils.files import read_lines, write_lines

NEAR = 4  # bits; copies of a picture differ in at most so many of the 64
SIDE = 16  # side of `grey`
CONTRAST = 1.0  # grey levels of 256; a picture with a smaller standard deviation of `grey` is blank
CHANGED = 0.75  # standard deviations by which a grey value must differ to count as changed
CHANGES = 3  # values of the 256 that may be changed in a copy


@dataclass(frozen=True, slots=True)
class PictureHash:
    """What is compared of a picture: 8 bytes of bits, and 256 bytes of grey values."""

    bits: bytes
    grey: bytes


def picture_hash(image: Image.Image) -> PictureHash | None:
    """The hash of a picture as a model sees it; None if the picture is blank (it has one colour everywhere).

    Raises BadRow for a picture that cannot be used.
    """
    image = usable(image, {}).convert("L")
    grey = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    if grey.std() < CONTRAST:
        return None
    values = np.asarray(image.resize((9, 8), Image.Resampling.LANCZOS))
    return PictureHash(np.packbits(values[:, 1:] > values[:, :-1]).tobytes(), grey.tobytes())


def bit_distances(ours: Sequence[PictureHash], theirs: Sequence[PictureHash]) -> np.ndarray:
    """The number of bits in which each of N hashes differs from each of M: shape (N, M)."""
    # For signs instead of bits, the scalar product is 64 minus twice the distance; float32 is exact here.
    return (64 - _signs(ours) @ _signs(theirs).T) / 2


def _signs(hashes: Sequence[PictureHash]) -> np.ndarray:
    packed = np.frombuffer(b"".join(one.bits for one in hashes), np.uint8).reshape(-1, 8)
    return np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1


def looks_same(ours: Sequence[PictureHash], theirs: Sequence[PictureHash]) -> np.ndarray:
    """For N pairs of hashes: whether at most `CHANGES` grey values differ, brightness and contrast apart."""
    changed = np.abs(_standardised(ours) - _standardised(theirs)) > CHANGED
    return changed.sum(axis=1) <= CHANGES


def _standardised(hashes: Sequence[PictureHash]) -> np.ndarray:
    """The grey values of each picture with mean 0 and standard deviation 1: shape (N, 256)."""
    flat = np.frombuffer(b"".join(one.grey for one in hashes), np.uint8)
    grey = flat.reshape(-1, SIDE * SIDE).astype(np.float32)
    grey -= grey.mean(axis=1, keepdims=True)
    return grey / grey.std(axis=1, keepdims=True)


class HashCache:
    """A file of hashes by the content of the picture, so that an interrupted comparison goes on from there.

    A picture that several rows show is decoded once. For a blank picture the hash is None.
    """

    def __init__(self, path: Path):
        lines = read_lines(path)
        write_lines(path, lines)  # without the incomplete last line that a killed run leaves
        self.known = {line["digest"]: _from_line(line) for line in lines}
        self._file = path.open("a")

    def add(self, found: Mapping[str, PictureHash | None]) -> None:
        """Keep new hashes, and write them to the file at once."""
        for digest, one in found.items():
            if digest not in self.known:
                self.known[digest] = one
                parts = {"bits": one.bits.hex(), "grey": one.grey.hex()} if one else {"bits": None}
                self._file.write(json.dumps({"digest": digest} | parts) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def content_digest(content: bytes) -> str:
    """The key of a picture in the cache, made from the bytes of its file."""
    return blake2b(content, digest_size=16).hexdigest()


def _from_line(line: Mapping[str, str | None]) -> PictureHash | None:
    bits, grey = line.get("bits"), line.get("grey")
    return PictureHash(bytes.fromhex(bits), bytes.fromhex(grey)) if bits and grey else None
