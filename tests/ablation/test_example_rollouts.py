"""Example responses are coloured by segment."""

from vigos_cli.ablation.example_rollouts import coloured
from vigos_cli.types import Response


def test_rollouts_are_coloured_by_segment():
    def said(text: str, described: bool = True, spans: str = "paper"):
        return coloured(Response("i", 0, text, "", "", True, described, 1), spans)

    turn = "<description>red</description> <think>so</think> \\boxed{a} bye"
    kinds = [kind for _, kind in said(turn)]
    assert kinds == [
        *["delimiters", "description", "delimiters", "reasoning", "delimiters", "answer", "delimiters", "end"]
    ]
    assert "".join(piece for piece, _ in said(turn)) == turn
    assert said(turn)[1] == ("red", "description") and said(turn)[5] == ("a", "answer")
    assert said("<think>so</think> \\boxed{a}", described=False)[1] == ("so", "reasoning")
    assert said(turn, spans="code")[0] == ("<description>red", "description")
    assert said("<b>no") == [("<b>no", "invalid")]
