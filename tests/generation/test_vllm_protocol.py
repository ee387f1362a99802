"""Replies of a vLLM server that are nonsense end a run with one line, and are never used."""

from __future__ import annotations

import json

import pytest

from vigos_cli.generation import vllm_protocol
from vigos_cli.utils.errors import UserError
from vigos_cli.utils.server import CutShort


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_log_probabilities_that_are_no_numbers_are_an_error(value):
    content = [{"token_id": 5, "logprob": -1.0}, {"token_id": 6, "logprob": value}]
    with pytest.raises(UserError, match="no finite numbers"):
        vllm_protocol.completion_log_probs({"choices": [{"logprobs": {"content": content}}]}, (5, 6))


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([4, 10], "sampled the token 10, but model.path has the ids 0 to 9"),
        ([4, -1], "sampled the token -1,"),
        (["cat"], "sampled the token 'cat',"),
        ([None], "sampled the token None,"),
        ([True], "sampled the token True,"),
        ([4] * 4, "sampled 4 tokens, although at most 3"),
        ("4", "returns no token ids"),
    ],
)
def test_ids_that_are_no_tokens_are_an_error(ids, said):
    with pytest.raises(UserError, match=said):
        vllm_protocol.completion_ids(
            {"choices": [{"token_ids": ids}]}, frozenset((3,)), frozenset((2,)), vocabulary=10, most=3
        )
    for none in ({}, {"choices": None}, {"choices": []}):
        with pytest.raises(UserError, match="returns no token ids"):
            vllm_protocol.completion_ids(none, frozenset((3,)), frozenset((2,)), vocabulary=10, most=3)


@pytest.mark.parametrize(
    "reply",
    [
        {"choices": ["a"]},
        {"choices": {"a": 1}},
        {"usage": [1]},
        {"prompt_token_ids": 5},
        {"prompt_logprobs": "a"},
    ],
)
def test_a_reply_of_another_shape_is_asked_for_again(reply):
    with pytest.raises(CutShort, match="malformed"):
        vllm_protocol._whole(json.dumps(reply).encode())
