"""`vigos eval`: saved responses without a model, a model with resume, and paired comparisons."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import warm
from PIL import Image
from scipy import stats as scipy_stats

from vigos_cli.config.compose import job
from vigos_cli.evaluation.evaluate import evaluate
from vigos_cli.evaluation.evaluation_report import write_report
from vigos_cli.evaluation.graded import Graded
from vigos_cli.evaluation.result import Result
from vigos_cli.evaluation.run_comparison import compare_runs, holm, mcnemar, sign_flips, write_comparison
from vigos_cli.types import Sample, Verdict
from vigos_cli.utils.errors import ConfigError, UserError
from vigos_cli.utils.progress import Bar

ITEMS = [
    {"id": "a", "problem": "1 + 1?", "answer": "2", "image": "p.png"},
    {"id": "b", "problem": "Colour?", "answer": "red", "image": "p.png"},
    {"id": "c", "problem": "Yes or no?", "answer": "yes", "image": "p.png"},
]
SAID = [
    {"id": "a", "responses": ["<think>one and one</think> \\boxed{2.0}", "3"]},
    {"id": "b", "responses": ["blue", "Red."]},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (84, 84), "grey").save(tmp_path / "p.png")
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    (tmp_path / "said.jsonl").write_text("".join(json.dumps(line) + "\n" for line in SAID))
    return tmp_path


def run(folder: Path, *overrides: str, out: str = "out"):
    place = f"bench.path={folder / 'items.jsonl'}"
    return evaluate(job("eval", ["bench=plain", place, f"out={folder / out}", *overrides]))  # type: ignore[arg-type]


def lines(path: Path) -> list[dict]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def test_saved_responses_are_joined_graded_and_explained(folder):
    scores = run(folder, f"responses={folder / 'said.jsonl'}")["plain"]
    found = {
        (v["id"], v["draw"]): (v["verdict"], v["rule"]) for v in lines(folder / "out" / "verdicts.jsonl")
    }
    assert {key: verdict for key, (verdict, _) in found.items()} == {
        ("a", 0): "right",
        ("a", 1): "wrong",
        ("b", 0): "wrong",
        ("b", 1): "right",
        ("c", 0): "unparsed",
        ("c", 1): "unparsed",
    }
    assert found["c", 0][1] == "missing"
    assert (scores["missing"], scores["fewer"], scores["unknown"], scores["scorer"]) == (1, 0, 0, "ours")
    assert scores["accuracy"]["mean"] == 2 / 6 and scores["pass"]["2"]["mean"] == 2 / 3
    assert scores["vote"]["mean"] == 1 / 3 and scores["agreement"]["mean"] == 0 and scores["tokens"] is None
    assert {v["answers"] for v in lines(folder / "out" / "verdicts.jsonl")} == {"sampled"}
    assert json.loads((folder / "out" / "scores.json").read_text())["missing"] == 1


def test_missing_responses_of_an_item_are_counted(folder, capsys):
    said = [{"id": "a", "responses": ["2", "2", "2"]}, {"id": "b", "response": "red"}]
    (folder / "said.jsonl").write_text("".join(json.dumps(line) + "\n" for line in said))
    scores = run(folder, f"responses={folder / 'said.jsonl'}")["plain"]
    assert scores["accuracy"]["mean"] == 4 / 9 and scores["pass"]["3"]["mean"] == 2 / 3
    assert "1 items have no response and 1 have fewer than 3" in capsys.readouterr().err


def test_responses_of_other_programs_are_read(folder):
    said = '\ufeff{"id": "a", "response": 2}\r\n{"id": "b", "response": "It is\u2028red."}\r\n'
    (folder / "said.jsonl").write_text(said + '{"id": "c", "response": null}\r\n', encoding="utf-8")
    run(folder, f"responses={folder / 'said.jsonl'}")
    found = {v["id"]: (v["verdict"], v["rule"]) for v in lines(folder / "out" / "verdicts.jsonl")}
    assert [verdict for verdict, _ in found.values()] == ["right", "right", "unparsed"]
    assert found["c"][1] == "missing"
    assert {v["answers"] for v in lines(folder / "out" / "verdicts.jsonl")} == {"saved"}


@pytest.mark.slow
def test_a_run_is_graded_again_from_its_own_responses(folder, capsys):
    asked = run(folder, "bench.samples=2", "bench.max_new_tokens=12")["plain"]
    own = folder / "out" / "responses.jsonl"
    again = run(folder, f"responses={own}", "bench.scorer=official", out="again")["plain"]
    assert "it has no other rule" in capsys.readouterr().err and again["scorer"] == "ours"
    assert again["accuracy"] == asked["accuracy"]
    assert again["sampled"]["accuracy"] == asked["sampled"]["accuracy"]
    one, two = ((folder / out / "verdicts.jsonl").read_text() for out in ("out", "again"))
    assert one == two
    with pytest.raises(ConfigError, match="its own responses"):
        run(folder, f"responses={folder / 'said.jsonl'}")


def test_impossible_settings_are_refused_before_a_model_is_loaded(folder, monkeypatch):
    monkeypatch.setattr("vigos_cli.evaluation.asker.load_asker", lambda _: pytest.fail("a model was loaded"))
    tasks = f"{{priorworld: {{rows: 1}}, plain: {{path: {folder / 'none.jsonl'}}}}}"
    with pytest.raises(ConfigError, match="no such file"):
        evaluate(job("eval", ["bench=plain", f"+bench.tasks={tasks}", f"out={folder / 'o'}"]))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="responses= cannot be graded for priorworld"):
        evaluate(job("eval", [f"responses={folder / 'said.jsonl'}", f"out={folder / 'o'}"]))  # type: ignore[arg-type]
    assert not (folder / "o").exists()


@pytest.mark.slow
def test_answers_of_a_changed_item_are_sampled_again(folder, capsys):
    few = ("bench.samples=1", "bench.max_new_tokens=8", "resume=auto")
    run(folder, *few)
    before = {(a["sample_id"], a["draw"]): a for a in lines(folder / "out" / "responses.jsonl")}
    items = [item | {"problem": "Whose?"} if item["id"] == "b" else item for item in ITEMS]
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    run(folder, *few, "bench.batch=1")  # another batch size is not a change
    made = lines(folder / "out" / "responses.jsonl")
    after = {(a["sample_id"], a["draw"]): a for a in made}
    assert len(made) == len(after) == 6
    assert {key for key in after if after[key] != before[key]} == {("b", 0), ("b", 1)}
    assert "1 items changed (prompt, image or adapter)" in capsys.readouterr().err


def test_damaged_responses_are_sampled_again(folder):
    few = ("bench.samples=0", "bench.max_new_tokens=8", "resume=auto")
    run(folder, *few)
    path = folder / "out" / "responses.jsonl"
    whole = path.read_text()
    for damage in (b"\xff\xfe\x80\n", b"null\n", b'{"sample_id": "c", "draw": 0}\n'):
        path.write_bytes(whole.encode().split(b"\n")[0] + b"\n" + damage)
        run(folder, *few)
        assert path.read_text() == whole


@pytest.mark.slow
def test_tokens_and_cut_off_answers_are_in_the_scores_of_a_run_and_of_its_resumption(folder):
    few = ("bench.samples=2", "bench.max_new_tokens=8")
    scores = run(folder, *few)["plain"]
    made = lines(folder / "out" / "responses.jsonl")
    for part, chosen in (
        (scores, [a for a in made if not a["draw"]]),
        (scores["sampled"], [a for a in made if a["draw"]]),
    ):
        assert part["tokens"]["mean"] == np.mean([a["tokens"] for a in chosen])
        assert part["cut_off"]["mean"] == np.mean([not a["finished"] for a in chosen])
        assert part["tokens"]["n"] == part["cut_off"]["n"] == len(chosen)
    assert "vote" not in scores and scores["sampled"]["vote"]["n"] == 3
    assert run(folder, *few, "resume=auto")["plain"] == scores


@pytest.mark.slow
def test_priorworld_has_the_figures_of_its_draws(folder):
    few = ("bench.samples=2", "limit=2", f"out={folder / 'w'}")
    scores = evaluate(job("eval", ["bench=priorworld", *few]))["priorworld"]  # type: ignore[arg-type]
    made = lines(folder / "w" / "responses.jsonl")
    assert scores["tokens"]["n"] == 2 and scores["sampled"]["tokens"]["n"] == 4
    assert scores["sampled"]["tokens"]["mean"] == np.mean([a["tokens"] for a in made if a["draw"]])
    assert scores["sampled"]["vote"]["n"] == scores["sampled"]["agreement"]["n"] == 2


@pytest.mark.slow
def test_the_progress_bar_knows_the_number_of_rows(folder, monkeypatch):
    totals, advance = [], Bar.advance

    def spy(bar: Bar, by: int, total: int | None) -> None:
        advance(bar, by=by, total=total)
        totals.append((bar.done, total))

    monkeypatch.setattr("vigos_cli.evaluation.asker.CHUNK", 1)
    monkeypatch.setattr(Bar, "advance", spy)
    run(folder, "bench.samples=0", "bench.max_new_tokens=8", "bench.batch=1")
    run(folder, "bench.samples=0", "bench.max_new_tokens=8", "bench.batch=1", "limit=2", out="two")
    assert totals == [(1, 3), (2, 3), (3, 3), (1, 2), (2, 2)]


@pytest.mark.slow
def test_grading_saved_responses_needs_no_torch(folder):
    code = (
        "import sys; from vigos_cli.__main__ import main; sys.argv = ['vigos', *sys.argv[1:]]\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    args = ["eval", "bench=plain", "bench.path=items.jsonl", "responses=said.jsonl", "out=free"]
    done = subprocess.run([sys.executable, "-c", code, *args], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (folder / "free" / "verdicts.jsonl").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no responses in it"),
        ('{"id": "a", "response": {}}', "line 1: not an object"),
        ("{", "line 1: not an object"),
        ('{"id": "zz", "response": "2"}', "none of its ids, such as zz, is a id of plain, such as a"),
        ('{"id": "a", "response": "2"}\n{"id": "a", "response": "3"}', "line 2: a second line for a"),
    ],
)
def test_responses_that_match_no_item_are_a_one_line_error(folder, text, says):
    (folder / "said.jsonl").write_text(text)
    with pytest.raises(UserError, match=says):
        run(folder, f"responses={folder / 'said.jsonl'}")


def test_bench_path_is_refused_for_several_benchmarks(folder):
    with pytest.raises(ConfigError, match=r"set bench\.tasks\.NAME\.path"):
        evaluate(job("eval", ["bench=paper", f"bench.path={folder}", f"out={folder / 'o'}"]))  # type: ignore[arg-type]


def test_a_killed_run_resumes_with_the_same_answers(folder):
    few = ("bench.samples=2", "bench.max_new_tokens=12", "bench.batch=2")
    whole = run(folder, *few)
    path = folder / "out" / "responses.jsonl"
    answers = lines(path)
    assert [(a["sample_id"], a["draw"]) for a in answers].__len__() == 9
    assert whole["plain"]["sampled"]["accuracy"]["n"] == 6
    kept = path.read_text()
    (folder / "again").mkdir()
    (folder / "again" / "responses.jsonl").write_text(kept[: len(kept) // 2])
    assert run(folder, *few, "resume=auto", out="again") == whole
    assert (folder / "again" / "responses.jsonl").read_text() == kept


def test_several_benchmarks_are_evaluated_with_one_model(folder):
    tasks = f"{{plain: {{path: {folder / 'items.jsonl'}}}, priorworld: {{rows: 1}}}}"
    few = ("bench.samples=0", "bench.max_new_tokens=8", f"out={folder / 'both'}")
    both = evaluate(job("eval", ["bench=plain", f"+bench.tasks={tasks}", "limit=2", *few]))  # type: ignore[arg-type]
    assert both["plain"]["accuracy"]["n"] == 2 and sum(both["priorworld"]["n"].values()) >= 2
    assert len(lines(folder / "both" / "priorworld" / "verdicts.jsonl")) == 2
    assert json.loads((folder / "both" / "scores.json").read_text()).keys() == both.keys()


@pytest.mark.slow
def test_a_run_killed_at_several_moments_gives_the_same_results(folder):
    tasks = f"{{plain: {{path: {folder / 'items.jsonl'}}}, priorworld: {{rows: 2}}}}"
    few = ("bench.samples=2", "bench.max_new_tokens=24", "bench.batch=2", f"+bench.tasks={tasks}")

    def start(out: str):
        return warm.start(warm.vigos, ["eval", "bench=plain", *few, "resume=auto", f"out={folder / out}"])

    def written(out: str) -> int:
        files = (folder / out / name / "responses.jsonl" for name in ("plain", "priorworld"))
        return sum(file.stat().st_size for file in files if file.exists())

    whole = start("whole")
    assert whole.wait(300) == 0, whole.printed(1)
    kills = 0
    for share in (0.0, 0.3, 0.6, 0.9):
        process, goal = start("killed"), share * written("whole")
        while process.poll() is None and written("killed") <= goal:
            time.sleep(0.01)
        process.kill()
        kills += process.wait(300) == -signal.SIGKILL
    assert kills >= 3  # the other processes ended before the kill
    assert start("killed").wait(300) == 0
    for name in ("plain", "priorworld"):
        one, two = (lines(folder / out / name / "responses.jsonl") for out in ("whole", "killed"))
        assert one == two  # no answer is lost, repeated, different or at another place
        one, two = (folder / out / name / "verdicts.jsonl" for out in ("whole", "killed"))
        assert one.read_text() == two.read_text()
    one, two = (json.loads((folder / out / "scores.json").read_text()) for out in ("whole", "killed"))
    assert one == two


@pytest.mark.slow
def test_two_processes_give_the_same_answers_as_one(folder):
    few = ("bench.samples=1", "bench.max_new_tokens=12", "bench.batch=2")
    whole = run(folder, *few)["plain"]
    asked = ["eval", "bench=plain", *few, f"bench.path={folder / 'items.jsonl'}", f"out={folder / 'two'}"]
    both = warm.start_both(warm.vigos, asked)
    assert [process.wait(300) for process in both] == [0, 0], both[0].printed(1)
    assert json.loads((folder / "two" / "scores.json").read_text()) == whole
    one, two = (lines(folder / name / "responses.jsonl") for name in ("out", "two"))
    assert one == two


@pytest.mark.slow
def test_only_missing_answers_of_an_item_are_sampled(folder):
    few = ("bench.samples=2", "bench.max_new_tokens=12", "bench.batch=2")
    run(folder, *few)
    path = folder / "out" / "responses.jsonl"
    answers = path.read_text()
    kept = [line for line in answers.splitlines(True) if json.loads(line)["draw"] != 1]
    path.write_text("".join(kept))
    run(folder, *few, "resume=auto")
    assert path.read_text() == answers


def island(folder: Path) -> dict:
    page = (folder / "out" / "report.html").read_text()
    return json.loads(page.split('id="island">')[1].split("</script>")[0])


def test_all_answers_are_on_the_page_with_their_pictures(folder):
    scores = run(folder, "bench.samples=1", "bench.max_new_tokens=8")["plain"]
    data = island(folder)
    verdicts = {(v["id"], v["draw"]): v for v in lines(folder / "out" / "verdicts.jsonl")}
    responses = {(a["sample_id"], a["draw"]): a for a in lines(folder / "out" / "responses.jsonl")}
    assert [item["id"] for item in data["items"]] == ["a", "b", "c"]
    for item in data["items"]:
        assert data["images"][item["images"][0]].startswith("data:image/png;base64,")
        for draw, (word, said, reason, tokens, cut, score, pieces) in enumerate(item["answers"]):
            verdict, response = verdicts[item["id"], draw], responses[item["id"], draw]
            assert (word, said or None, score) == (verdict["verdict"], verdict["extracted"], None)
            assert reason == f"{verdict['rule']}: {verdict['reason']}"
            assert (tokens, bool(cut)) == (response["tokens"], not response["finished"])
            assert "".join(text for text, _ in pieces) == response["text"]
    assert f"{scores['tokens']['mean']:.1f}" in (folder / "out" / "report.html").read_text()


def test_markup_in_saved_responses_is_escaped_on_the_page(folder):
    (folder / "said.jsonl").write_text(json.dumps({"id": "a", "response": "<script>alert(1)</script>"}))
    run(folder, f"responses={folder / 'said.jsonl'}")
    page = (folder / "out" / "report.html").read_text()
    assert "alert(1)" in page and "<script>alert" not in page
    answers = [item["answers"][0] for item in island(folder)["items"]]
    assert [answer[3] for answer in answers] == [None] * 3  # saved responses have no count of tokens
    assert answers[0][6] is not None and answers[1][6] is None  # no response to the second item


@pytest.mark.parametrize(
    ("overrides", "model"),
    [
        ((), "builtin:tiny"),
        (
            ("rollout=openai", "rollout.url=http://there:1/v1", "model.path=org/name"),
            "org/name at http://there:1/v1",
        ),
        (
            ("rollout=openai", "rollout.url=http://there:1/v1", "rollout.model=large"),
            "large at http://there:1/v1",
        ),
        (("rollout=openai", "rollout.url=http://there:1/v1", "responses=said.jsonl"), "said.jsonl"),
    ],
)
def test_the_page_names_the_model_that_answered(folder, overrides, model):
    (folder / "out").mkdir()
    config = job("eval", ["bench=plain", f"out={folder / 'out'}", *overrides])
    sample = Sample("a", "What?", "42", ())
    graded = [Graded(sample, 0, Verdict("unparsed", None, "text", "no answer"), response="")]
    write_report("plain", Result(graded, lambda _: {}, folder / "out"), {}, config)  # type: ignore[arg-type]
    assert dict(island(folder)["facts"])["model"] == model


def test_a_single_item_can_be_selected(folder):
    few = ("bench.samples=0", "bench.max_new_tokens=8")
    run(folder, *few, "ids=[b]")
    assert [v["id"] for v in lines(folder / "out" / "verdicts.jsonl")] == ["b"]
    with pytest.raises(UserError, match="no item bb; did you mean b"):
        run(folder, *few, "ids=[bb]", out="other")


def test_resume_refuses_changed_settings(folder):
    few = ("bench.samples=0", "bench.max_new_tokens=8")
    run(folder, *few)
    with pytest.raises(ConfigError, match=r"was started with bench\.max_new_tokens=8, not 9"):
        run(folder, "bench.samples=0", "bench.max_new_tokens=9", "resume=auto")


# ---------------------------------------------------------------- comparing


def verdicts(folder: Path, name: str, rights: list[int], clusters: list[str] | None = None) -> str:
    (folder / name).mkdir()
    made = [
        {
            "id": str(i),
            "draw": 0,
            "verdict": "right" if right else "wrong",
            "bench": "x",
            "part": "",
            "cluster": clusters[i] if clusters else str(i),
        }
        for i, right in enumerate(rights)
    ]
    (folder / name / "verdicts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in made))
    return str(folder / name)


def test_single_answers_are_compared_by_mcnemar(tmp_path):
    one, two = [1] * 10 + [0] * 20, [1] * 8 + [0] * 2 + [1] * 12 + [0] * 8
    (found,) = compare_runs([verdicts(tmp_path, "a", one), verdicts(tmp_path, "b", two)])
    assert found.p == pytest.approx(scipy_stats.binomtest(12, 14).pvalue)
    assert (found.first, found.other, found.items, found.test) == (10 / 30, 20 / 30, 30, "McNemar")
    assert 0 < found.low < found.mean < found.high and found.says == "higher"
    text = write_comparison([found], tmp_path / "out")
    assert "+0.333" in text and (tmp_path / "out" / "compare.csv").read_text().startswith("benchmark,")


def test_the_share_of_items_with_the_same_answer(tmp_path):
    for name, said in (("a", ("red", None, "2", "x")), ("b", ("Red.", None, "3", "x"))):
        folder = Path(verdicts(tmp_path, name, [0, 0, 1, 1]))
        made = lines(folder / "verdicts.jsonl")
        made = [line | {"extracted": text} for line, text in zip(made, said, strict=True)]
        (folder / "verdicts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in made))
    (found,) = compare_runs([str(tmp_path / "a"), str(tmp_path / "b")])
    assert found.unchanged == 0.5  # two missing answers do not count as the same
    assert "| 0.500 | 4 |" in write_comparison([found], tmp_path / "out")


def test_without_any_difference_the_interval_is_not_empty(tmp_path):
    (found,) = compare_runs([verdicts(tmp_path, name, [1] * 9 + [0] * 3) for name in "ab"])
    assert found.mean == 0.0 and found.says == "no difference shown"
    high = scipy_stats.binomtest(0, 12).proportion_ci(method="wilson").high
    assert (found.low, found.high) == pytest.approx((-high, high))


def test_clustered_items_are_tested_by_cluster(tmp_path):
    clusters = [str(i // 5) for i in range(30)]  # all six clusters improve: p is 2 of 64 sign patterns
    (found,) = compare_runs(
        [verdicts(tmp_path, "a", [0] * 30, clusters), verdicts(tmp_path, "b", [1] * 30, clusters)]
    )
    assert found.test == "cluster sign flips" and found.p == pytest.approx(2 / 64, abs=0.006)


def test_judged_benchmarks_are_compared_on_items_with_two_scores(tmp_path):
    runs = []
    for name, scores in (("a", [0.0, 0.5, 1.0, None, 0.2]), ("b", [0.5, 1.0, 1.0, 1.0, None])):
        runs.append(verdicts(tmp_path, name, [0] * 5))
        path = tmp_path / name / "verdicts.jsonl"
        judged = [{**line, "rule": "judge", "judge": s} for line, s in zip(lines(path), scores, strict=True)]
        path.write_text("".join(json.dumps(line) + "\n" for line in judged))
    (found,) = compare_runs(runs)
    assert (found.first, found.other, found.items) == (0.5, 2.5 / 3, 3)
    assert found.test == "cluster sign flips"


def test_p_is_one_without_any_difference():
    assert mcnemar(0, 0) == 1.0 and mcnemar(5, 5) == 1.0
    assert sign_flips(np.zeros(8)) == 1.0


def test_holm_equals_known_values():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])


def test_runs_without_common_items_are_a_one_line_error(tmp_path):
    with pytest.raises(ConfigError, match=r"no verdicts\.jsonl"):
        compare_runs([str(tmp_path), str(tmp_path)])
    with pytest.raises(ConfigError, match="two folders"):
        compare_runs(["a"])


def test_a_file_without_a_row_that_can_be_asked_is_refused_by_its_rules(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"q": "What?", "answer": "a hat"}\n{"q": "Which?", "answer": "a cup"}\n')
    run = job(
        "eval", ["bench=plain", f"bench.path={file}", f"out={tmp_path / 'run'}", "responses=none.jsonl"]
    )
    (tmp_path / "none.jsonl").write_text('{"id": "0", "response": "a hat"}\n')
    run.responses = str(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="no row can be asked; left out: missing_question 2"):
        evaluate(run)


def test_a_run_of_another_benchmark_is_refused_before_anything_is_asked(tmp_path):
    (tmp_path / "verdicts.jsonl").write_text('{"bench": "vilp_f", "part": "", "id": "1", "draw": 0}\n')
    run = job("eval", ["bench=priorworld", f"compare=[{tmp_path}]", f"out={tmp_path / 'run'}"])
    with pytest.raises(ConfigError, match=r"this command asks priorworld, but .* has vilp_f: set bench="):
        evaluate(run)
