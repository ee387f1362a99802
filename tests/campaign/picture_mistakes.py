"""Mistakes in the pictures of a row for training, and in the paths to them."""

from __future__ import annotations

import base64
from random import Random
from typing import Any

from campaign.mistakes import AS_IT_IS, Mistake, put, values
from campaign.odd_pictures import pictures, plain, saved


def picture_files(rng: Random) -> list[Mistake]:
    found = []
    for name, picture in pictures().items():
        used = None if picture.rules else {"pictures": [(*picture.size, *picture.colour)]}
        path: Any = rng.choice(
            (
                f"odd/{name}",
                [f"odd/{name}"],
                {"path": f"odd/{name}"},
                [{"bytes": None, "path": f"./odd/{name}"}],
            )
        )
        found.append(
            Mistake(f"the picture {name}", "images", put("images", path), picture.rules, used, picture.counts)
        )
    return found


def in_the_row(rng: Random) -> list[Mistake]:
    whole = base64.b64encode(saved(plain())).decode()
    found = []
    for name, picture in pictures().items():
        text = base64.b64encode(picture.data).decode()
        used = None if picture.rules else {"pictures": [(*picture.size, *picture.colour)]}
        given: Any = rng.choice(
            (
                text,
                f"data:image/png;base64,{text}",
                {"bytes": text, "path": None},
                [{"bytes": picture.data, "path": "a.png"}],
            )
        )
        rules = (*picture.rules, *(("missing_image", "image_not_found") if not picture.data else ()))
        if text or isinstance(given, list):
            found.append(
                Mistake(f"{name} in the row", "images", put("images", given), rules, used, picture.counts)
            )
    cut = rng.randint(1, len(whole) - 40)
    bad = ("image_unreadable", "image_not_found", "image_outside", "missing_image")
    for text in (
        whole[:cut],
        whole[:cut] + "!" + whole[cut:],
        whole[:cut] + "\0" + whole[cut:],
        "data:image/png;base64,",
        "data:image/png,abc",
        "data:;base64,####",
        "base64,",
        f"data:text/plain;base64,{base64.b64encode(b'words').decode()}",
        base64.b85encode(saved(plain())).decode(),
    ):
        found += values("is", "images", [text], *bad)
    wrapped = "\n".join(whole[i : i + 76] for i in range(0, len(whole), 76))
    return found + values("is", "images", [wrapped, {"bytes": whole, "path": "/etc/passwd"}], used=AS_IT_IS)


def paths(rng: Random) -> list[Mistake]:
    ups = "../" * rng.randint(1, 12)
    outside = [
        f"{ups}etc/passwd",
        "/etc/passwd",
        "/dev/zero",
        "/dev/stdin",
        "/proc/self/mem",
        "../secret.png",
        "odd/../../secret.png",
        "/",
        "..",
        "file:///etc/passwd",
        {"path": "../secret.png"},
        {"bytes": None, "path": "/dev/urandom"},
    ]
    inside = [
        "nowhere.png",
        "odd",
        ".",
        "~/a.png",
        "~root/a.png",
        "$HOME/a.png",
        "http://127.0.0.1:9/a.png",
        "https://example.org/a.png",
        "ftp://a/b.png",
        "s3://a/b.png",
        "RED.PNG",
        "red.png\0",
        "a" * 5000 + ".png",
        "red.png/red.png",
        "pipe.png",
        "zero.png",
        "loop.png",
        "gone.png",
        "a\nb.png",
        "C:\\a.png",
        "\\\\server\\a.png",
    ]
    found = values("is", "images", outside, "image_outside", "image_unreadable")  # /dev/urandom is base64 too
    found += values("is", "images", inside, "image_not_found")
    found += values("is", "images", ["huge.png"], "image_too_large")
    return found + values("is", "images", ["odd/../red.png", "./red.png", ["red.png"]], used=AS_IT_IS)
