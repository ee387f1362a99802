"""The command line as a user calls it. A function that records its calls replaces the task itself."""

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import vigos_cli
from vigos_cli.__main__ import main
from vigos_cli.utils.errors import ConfigError, UserError

SOURCE = str(Path(vigos_cli.__file__).parents[1])
ENVIRONMENT = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}
QUIET = ["hydra/job_logging=none", "hydra/hydra_logging=none"]


@pytest.fixture
def vigos(monkeypatch, capsys, tmp_path):
    """Call `vigos ...` in an empty folder; returns the exit code and the output."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["vigos", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return SimpleNamespace(code=stopped.value.code, out=out, err=err)

    return call


@pytest.fixture
def ran(monkeypatch):
    """The configurations that the task was called with; it raises `ran.fails[seed]` if that is set."""
    state = SimpleNamespace(configs=[], fails={})

    def run(config):
        state.configs.append(config)
        Path(config.out, "summary.json").write_text("{}")
        if config.seed in state.fails:
            raise state.fails[config.seed]
        return float(config.seed)

    for command in ("rollout", "distill", "eval", "ablate"):
        monkeypatch.setitem(sys.modules, f"vigos_cli.cli.commands.{command}", SimpleNamespace(run=run))
    return state


# ---- names of files

NAMES = ["a b", "a%20b", "a[1]", "{a}", "a=b", "a,b", "a@b", "a'b", "a(b)", "äb", "a#b", "a;b", "a~b", "a:b"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_file_with_any_name_can_be_the_data(vigos, ran, tmp_path, name):
    (tmp_path / name).write_text("{}")
    assert vigos("rollout", "data=jsonl", f"data.path={name}").code == 0
    assert [config.data.path for config in ran.configs] == [name]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_does_not_exist_is_taken_as_a_name_or_the_quotes_are_shown(vigos, ran, name):
    got = vigos("rollout", "data=jsonl", f"data.path={name}")
    if got.code == 0:
        assert [config.data.path for config in ran.configs] == [name]
        return
    assert len(got.err.strip().splitlines()) == 1 and "in quotes: " in got.err
    (argument,) = shlex.split(got.err.rsplit("in quotes: ")[1])
    assert vigos("rollout", "data=jsonl", argument).code == 0
    assert [config.data.path for config in ran.configs] == [name]


# ---- mistakes of the user


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["distill", "trainer.lrr=1"], "did you mean trainer.lr?"),
        (["distill", "lr=1"], "did you mean trainer.lr?"),
        (["distill", "modle=tiny"], "did you mean model?"),
        (["distill", "model=tny"], "did you mean model=tiny?"),
        (["distill", "-m", "loss=vigs,jsd"], "did you mean loss=vigos?"),
        (["distill", "-m", "trainer.lrr=1,2"], "did you mean trainer.lr?"),
        (["distill", "trainer.lr=abc"], "trainer.lr=abc: "),
        (["distill", "trainer.steps=1.5"], "trainer.steps=1.5: "),
        (["distill", "trainer.schedule=cosin"], "did you mean cosine?"),
        (["distill", "+foo=1"], "no key or group foo"),
        (["distill", "++trainer.foo=1"], "trainer.foo"),
        (["distill", "seed=1,2"], "-m"),
        (["distill", "seed"], "KEY=VALUE, such as seed="),
        (["distill", "limit=-1"], "limit=-1"),
        (["distill", "+experiment=prio"], "did you mean experiment=prior?"),
        (["distill", "experiment=prior"], "+experiment=prior"),
        (["ablate", "arm=jsd_0.1"], "+arm=jsd_0.1"),
        (["ablate", "+arm=jsd_0.2"], "did you mean arm=jsd_0."),
        (["ablate", "routing=vigos,sft", "trainer.lr=1e-3,-1"], "trainer.lr=-1.0"),
        (["ablate", "seed=1,1"], "two cells are the same"),
        (["ablate", "trainer.lr=1e-3,2e-3", "repeat_over=[trainer.rl]"], "did you mean trainer.lr?"),
        (["ablate", "seed=1,2", "plan=true"], "vigos distill"),
        (["ablate", "out=nowhere", "cells=report"], "nowhere contains no sweep"),
        (["distill", "+experimnt=prior"], "did you mean +experiment?"),
        (["distill", "model.nme.x=3"], "did you mean model.name?"),
        (["distill", "trainer.lr=[1"], "vigos: "),
        (["distill", "data=jsonl"], "data.path"),
        (["distill", "-m", "hydra/launcher=joblb"], "hydra/launcher=joblb"),
        (["eval", "loss=jsd"], "does not use loss"),
        (["distill", "model.min_pixels=9"], "model.min_pixels was removed"),
        (["eval", "bench=mathvista", "bench.schema=plain"], "use bench=plain bench.path=FILE"),
        (["eval", "trainer.steps=3"], "does not use trainer"),
        (["distill", "routing.student=plain"], "routing.student.format=structured or think"),
        (["distill", "routing=vcsd", "loss.clip=none"], "set routing.supervise.all.clip"),
        (["distill", "routing=vgs", "routing.supervise.all.clip=token"], "supervise.all.0.clip"),
        (["distill", "routing=vgs", "routing.supervise.all.x.clip=token"], "supervise.all.0.x.clip"),
        (["distill", "routing.teachers.reasoning.told.x=3"], "routing.teachers.reasoning.told is a list"),
        (["distill", "--mulitrun"], "--multirun"),
        (["distill", "--cfg", "jobb"], "'job'"),
        (["distill", "--cfg", "job", "-m"], "cannot be used together"),
        (["distill", "-p", "trainer"], "--cfg"),
        (["distill", "--config-dir", "nowhere"], "nowhere"),
        (["distil"], "Did you mean 'distill'?"),
    ],
)
def test_a_mistake_is_reported_in_at_most_three_lines(vigos, ran, tmp_path, arguments, said):
    result = vigos(*arguments)
    assert result.code == 2
    assert said in result.err
    assert len(result.err.strip().splitlines()) <= 3
    assert "Traceback" not in result.err and result.out == ""
    assert not ran.configs
    written = [file.name for file in tmp_path.rglob("*") if file.is_file()]
    assert written == (["multirun.yaml"] if "-m" in arguments and written else []), "no file may be written"


# ---- runs


@pytest.mark.slow
def test_a_run_gets_its_folder_and_its_configuration(vigos, ran, tmp_path):
    assert vigos("distill", "out=here", "seed=4", "loss=jsd", *QUIET).code == 0
    (config,) = ran.configs
    assert (config.seed, config.loss.divergence, config.out) == (4, "jsd", str(tmp_path / "here"))
    assert (tmp_path / "here" / ".hydra" / "overrides.yaml").exists()


def test_the_default_folder_is_named_after_the_command_and_the_time(vigos, ran):
    assert vigos("eval", *QUIET).code == 0
    assert re.search(r"/outputs/eval/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d$", ran.configs[0].out)


@pytest.mark.slow
def test_the_flag_m_may_come_after_overrides(vigos, ran):
    assert vigos("distill", "seed=1,2", *QUIET, "-m", "out=s").code == 0
    assert [config.seed for config in ran.configs] == [1, 2]


@pytest.mark.slow
def test_a_sweep_writes_a_folder_for_each_combination_named_after_the_swept_keys(vigos, ran, tmp_path):
    code = vigos(
        "distill",
        "-m",
        "routing=vigos,opsd",
        "seed=1,2",
        "out=s",
        "trainer.lr=1e-4",
        "data.path=/a/b",
        *QUIET,
    ).code
    assert code == 0
    names = ["routing=opsd,seed=1", "routing=opsd,seed=2", "routing=vigos,seed=1", "routing=vigos,seed=2"]
    assert sorted(folder.name for folder in (tmp_path / "s").iterdir() if folder.is_dir()) == names
    assert {config.trainer.lr for config in ran.configs} == {1e-4}


@pytest.mark.slow
def test_a_job_of_a_sweep_says_which_key_of_the_loss_its_routing_ignores(vigos, ran):
    result = vigos("distill", "-m", "routing=vcsd,vigos", "loss.clip=token", "out=s", *QUIET)
    assert result.code == 0 and [config.routing.name for config in ran.configs] == ["vcsd", "vigos"]
    assert [line for line in result.err.splitlines() if line.startswith("vigos: ")] == [
        "vigos: loss.clip: routing=vcsd states it; set routing.supervise.all.clip: this job ignores it"
    ]


def test_a_path_may_contain_a_folder_name_that_a_sweep_made(vigos, ran, tmp_path):
    folder = tmp_path / "s" / "routing=vigos,it's,seed=1"
    folder.mkdir(parents=True)
    assert vigos("distill", f"adapter.path={folder}", "out=o").code == 0
    assert [config.adapter.path for config in ran.configs] == [str(folder)]
    assert vigos("distill", f"adapter.path={folder}-not", "out=p").code == 2


@pytest.mark.slow
def test_an_experiment_with_m_runs_all_its_arms(vigos, ran, tmp_path):
    assert vigos("distill", "+experiment=prior", "-m", "out=s", "seed=5", *QUIET).code == 0
    assert [(config.routing.name, config.seed) for config in ran.configs] == [
        ("vigos", 5),
        ("opsd", 5),
        ("opsd_structured", 5),
    ]
    assert (tmp_path / "s" / "routing=vigos").is_dir()


@pytest.mark.slow
def test_ablate_sweeps_the_listed_values_or_the_arms_of_an_experiment(vigos, ran, monkeypatch):
    monkeypatch.setattr("vigos_cli.ablation.sweep._report", lambda *_: 0)
    here = [*QUIET, "workers=1"]  # in this process, where `ran` sees the cells
    assert vigos("ablate", "routing=vigos,sft", "seed=1", "out=s", *here).code == 0
    assert [config.routing.name for config in ran.configs] == ["vigos", "sft"]
    assert vigos("ablate", "+experiment=fallback", "seed=1", "out=t", *here).code == 0
    assert [config.label for config in ran.configs[2:]] == [
        "fallback_reverse",
        "fallback_forward",
        "fallback_none",
    ]
    assert [config.routing.name for config in ran.configs[2:]] == ["vigos", "vigos", "no_reference"]


@pytest.mark.slow
def test_ablate_without_arguments_is_the_main_experiment(vigos, ran):
    listed = vigos("ablate", "cells=list", "seed=1", *QUIET)
    assert listed.code == 0 and "routing=two_pass" in listed.out and not ran.configs
    assert "8 cells, 8 of them to run" in listed.out


def test_own_options(vigos, ran, tmp_path):
    (tmp_path / "own" / "loss").mkdir(parents=True)
    (tmp_path / "own" / "loss" / "mine.yaml").write_text("name: mine\ndivergence: jsd\nbeta: 0.1\n")
    assert vigos("distill", "--config-dir", "own", "loss=mine", "out=here", *QUIET).code == 0
    assert (ran.configs[0].loss.divergence, ran.configs[0].loss.beta) == ("jsd", 0.1)
    refused = vigos("distill", "--config-dir", "own", "loss=mien", "out=there")
    assert refused.code == 2 and "loss=mine" in refused.err


@pytest.mark.slow
def test_show_the_configuration(vigos, ran, tmp_path):
    shown = vigos("distill", "--cfg", "job", "-p", "trainer", "trainer.steps=3")
    assert shown.code == 0 and "steps: 3" in shown.out and not list(tmp_path.iterdir())
    assert "outputs/distill/20" in vigos("distill", "--cfg", "job", "--resolve").out
    assert "defaults" in vigos("distill", "--info", "defaults").out.lower()
    assert "search path" in vigos("distill", "--info").out


# ---- the folder of a run is never overwritten


@pytest.mark.slow
def test_a_folder_with_results_is_refused_and_not_changed(vigos, ran, tmp_path):
    assert vigos("distill", "out=here", "seed=1", *QUIET).code == 0
    before = (tmp_path / "here" / ".hydra" / "overrides.yaml").read_text()
    for flags in ([], ["-m"]):
        refused = vigos("distill", "out=here", "seed=2", *flags, *QUIET)
        assert refused.code == 2 and "resume=auto" in refused.err and "summary.json" in refused.err
    assert (tmp_path / "here" / ".hydra" / "overrides.yaml").read_text() == before
    assert len(ran.configs) == 1
    assert vigos("distill", "out=here", "seed=2", "resume=auto", *QUIET).code == 0


def test_a_folder_with_only_hydras_files_counts_as_empty(vigos, ran, tmp_path):
    (tmp_path / "here" / ".hydra").mkdir(parents=True)
    (tmp_path / "here" / "distill.log").write_text("")
    assert vigos("distill", "out=here", *QUIET).code == 0


def test_a_file_is_refused_as_output_folder(vigos, ran, tmp_path):
    (tmp_path / "here").write_text("")
    assert vigos("distill", "out=here").code == 2


# ---- failures of the task


def test_a_crash_shows_its_traceback_without_hydras_frames(vigos, ran):
    ran.fails[0] = RuntimeError("boom")
    result = vigos("distill", *QUIET)
    assert result.code == 1
    assert "RuntimeError: boom" in result.err and "in run" in result.err
    assert "hydra" not in result.err and "launch.py" not in result.err


@pytest.mark.parametrize(("error", "code"), [(ConfigError("no such thing"), 2), (UserError("no weights"), 1)])
def test_a_user_error_raised_by_the_task_is_one_line(vigos, ran, error, code):
    ran.fails[0] = error
    result = vigos("distill", *QUIET)
    assert (result.code, result.err) == (code, f"vigos: {error}\n")


def test_a_fault_of_the_machine_in_the_task_is_one_line(vigos, ran):
    ran.fails[0] = OSError(28, "No space left on device")
    result = vigos("distill", "out=here", *QUIET)
    assert result.code == 1 and result.err.startswith("vigos: ") and result.err.count("\n") == 1
    assert "/here: the disk is full" in result.err


def test_a_library_error_in_the_task_is_not_reported_as_a_users_mistake(vigos, ran):
    ran.fails[0] = FileNotFoundError(2, "No such file", "weights.bin")
    result = vigos("distill", *QUIET)
    assert result.code == 1 and "Traceback" in result.err


def test_ctrl_c_exits_with_code_130(vigos, ran):
    ran.fails[0] = KeyboardInterrupt()
    assert vigos("distill", *QUIET).code == 130


@pytest.mark.slow
def test_a_failing_job_fails_the_sweep_after_the_others_ran(vigos, ran):
    ran.fails[1] = RuntimeError("boom")
    result = vigos("distill", "-m", "seed=1,2", *QUIET)
    assert result.code == 1 and "RuntimeError: boom" in result.err
    assert [config.seed for config in ran.configs] == [1, 2]


@pytest.mark.slow
def test_a_bad_value_in_a_sweep_is_refused(vigos, ran):
    result = vigos("distill", "-m", "trainer.steps=-1,1", *QUIET)
    assert result.code == 2 and "trainer.steps=-1: must be at least 1" in result.err
    assert len(ran.configs) == 1


# ---- help


def test_help_imports_neither_torch_nor_hydra():
    script = (
        "import sys\nfrom vigos_cli.__main__ import main\nsys.argv = ['vigos', '--help']\n"
        "try: main()\nexcept SystemExit as stop: assert not stop.code\n"
        "print({'torch', 'hydra', 'transformers', 'omegaconf'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert "rollout" in done.stdout and done.stdout.strip().endswith("set()")


def test_the_help_of_a_command_lists_groups_and_defaults():
    script = (
        "import sys\nfrom vigos_cli.__main__ import main\nsys.argv = ['vigos', 'distill', '--help']\n"
        "try: main()\nexcept SystemExit as stop: assert not stop.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    for word in ("--multirun", "routing", "opsd_structured", "minute", "same_prompt", "resume", "<time>"):
        assert word in done.stdout


def test_no_arguments_show_the_help(vigos):
    result = vigos()
    assert result.code == 0 and "distill" in result.out


@pytest.mark.slow
def test_help_takes_at_most_half_longer_than_a_bare_typer_app(tmp_path):
    bare = tmp_path / "bare.py"
    commands = "".join(f"@app.command()\ndef {name}(): pass\n" for name in ("a", "b", "c", "d"))
    bare.write_text(f"import typer\napp = typer.Typer()\n{commands}app()\n")
    ours, theirs = [], []
    for _ in range(8):  # alternate and take the shortest times, so that other load affects both
        for command, times in ((["-m", "vigos_cli"], ours), ([str(bare)], theirs)):
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, *command, "--help"], env=ENVIRONMENT, capture_output=True, check=True
            )
            times.append(time.perf_counter() - start)
    print(f"vigos --help {min(ours):.3f} s, a bare Typer app {min(theirs):.3f} s")
    assert min(ours) <= 1.5 * min(theirs)


# ---- several processes

RANKED = """
import os, sys, time, types
from pathlib import Path
if os.environ["RANK"] == "1":
    time.sleep(3)  # rank 0 would have ended by then if it did not wait
def run(config):
    import os, time
    while os.environ["RANK"] != "0" and not Path(config.out, "rank0").exists():
        time.sleep(0.01)  # as commands do: nothing is written before the processes have met
    Path(config.out, "rank" + os.environ["RANK"]).write_text(config.out)
sys.modules["vigos_cli.cli.commands.distill"] = types.SimpleNamespace(run=run)
import vigos_cli.config.compose, datetime, os
vigos_cli.config.compose.started -= datetime.timedelta(hours=int(os.environ["RANK"]))  # clocks that disagree
sys.argv = ["vigos", "distill"]
from vigos_cli.__main__ import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("starter", ["torchrun", "by hand"])
def test_processes_share_the_folder_of_rank_0(tmp_path, starter):
    (tmp_path / "ranked.py").write_text(RANKED)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    if starter == "torchrun":
        module = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc-per-node=2",
            f"--master-port={port}",
        ]
        subprocess.run([*module, "ranked.py"], env=ENVIRONMENT, cwd=tmp_path, check=True, timeout=240)
    else:
        address = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": "2"}
        started = [
            subprocess.Popen(
                [sys.executable, "ranked.py"], env={**ENVIRONMENT, **address, "RANK": rank}, cwd=tmp_path
            )
            for rank in ("0", "1")
        ]
        assert [process.wait(240) for process in started] == [0, 0]
    (folder,) = (tmp_path / "outputs" / "distill").iterdir()
    assert {"rank0", "rank1", ".hydra"} <= {file.name for file in folder.iterdir()}


@pytest.mark.parametrize("sign", ["", "+", "++"])
def test_a_column_of_the_data_is_named_with_or_without_a_sign(vigos, sign):
    column = f"{sign}data.columns.question=prompt"
    done = vigos("distill", "data=jsonl", "data.path=rows.jsonl", column, "--cfg", "job")
    assert done.code == 0 and "question: prompt" in done.out


def test_the_terminal_shows_both_ends_of_a_long_answer():
    from vigos_cli.cli.commands.rollout import shortened

    assert shortened("short") == "short"
    text = "first " + 3000 * "x" + " \\boxed{4}"
    shown = shortened(text)
    assert shown.startswith("first x") and shown.endswith("x \\boxed{4}") and len(shown) < 760
    assert f"{3000 + 16 - 700:,} characters" in shown
