"""How many tokens the loss projects to the vocabulary at once, if `loss.chunk` is null.

    chunk_rows(151_936, sides=2, device="cuda", half=True)       # 384 tokens: 445 MiB of logits
    chunk_rows(151_936, sides=2, device="cpu", half=False)       # 64

A head in half precision is converted to float32 for each chunk, twice: for the logits and for the gradient.
With H for the width, V for the vocabulary, F float32 operations and W bytes of memory a second, and C tokens:

    converting    2 (2 + 4 + 4) V H / W       read 2 bytes, write 4, and read these 4 for the product
    products      2 (sides + 1) C V H / F     of each side, and of the gradient

V and H cancel in their ratio, 10 F / ((sides + 1) C W), which falls with C alone. F / W is 10 on an A100, 20
on an H100, 82 on an RTX 4090 and 100 on an L4, by their data sheets. With two sides and 64 tokens converting
takes 0.5 to 5 times as long as the products; with 384 tokens 0.1 to 0.9 times; with 1,024, 0.03 to 0.3 times.
No GPU was there to measure it. A float32 head is only read: 256 tokens are enough for the products to take
longer.

So a chunk has as many tokens as `LOGITS` bytes hold, for the student and all teachers of a call together:
half a gibibyte, about what `plan=true` estimates for one row of 1,500 tokens of Qwen2-VL 2B. Twice as much
would save little more. `MOST` bounds the chunk where more tokens gain nothing; on a CPU this was measured
(docs/performance.md). The tokens are scored a tile at a time, so the other tensors of the size of the
vocabulary do not grow with the chunk. Neither depends on the length of a row.
"""

from __future__ import annotations

LOGITS = 2**29  # bytes of the logits of a chunk
MOST = {  # tokens above which a chunk gains nothing, for a head in half precision or not
    ("cpu", True): 512,
    ("cpu", False): 64,
    ("gpu", True): 1024,
    ("gpu", False): 256,
}
FEWEST = 64
# Logits scored at once: on a CPU they fit in its cache; on a GPU a kernel takes longer than its launch.
TILES = {"cpu": 2**20, "gpu": 2**23}
COPIES = 8  # tensors of a tile that a score holds at once: counted, 5 for a KL, 7 for the skew KL, 8 for JSD


def chunk_rows(vocabulary: int, *, sides: int, device: str, half: bool) -> int:
    """The number of tokens of a chunk, for so many tensors of the size of the vocabulary a token."""
    bounded = min(LOGITS // (4 * vocabulary * sides), MOST[_kind(device), half])
    return max(FEWEST, bounded // FEWEST * FEWEST)


def tile_rows(vocabulary: int, device: str) -> int:
    """The number of tokens that are scored at once, with all entries of the vocabulary."""
    return max(1, TILES[_kind(device)] // vocabulary)


def loss_bytes(vocabulary: int, chunk: int, *, sides: int, device: str) -> int:
    """The bytes of all tensors of the size of the vocabulary, for the estimate of memory."""
    tile = min(chunk, tile_rows(vocabulary, device))
    return 4 * vocabulary * (sides * chunk + COPIES * tile)


def _kind(device: str) -> str:
    """Whether a type of device is the CPU."""
    return "cpu" if device == "cpu" else "gpu"
