"""Run the campaign of faults, and write its tables into docs/reliability.md.

    cd tests && python -m campaign                      # everything, half an hour on two cores
    cd tests && python -m campaign --only "kills of"    # the groups or trials whose names contain this
    cd tests && python -m campaign --seed 7 --keep      # other random moments; keep the folders of all trials

A campaign that was stopped goes on where it was: FOLDER/results.jsonl has one line for each trial. Trials
with a fault keep their folders, and are run again by the next call.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace
from pathlib import Path

from campaign import groups, reliability_page
from campaign.trial import Outcome, Space, Trial, key
from vigos_cli.utils.progress import Bar, duration


def finished(record: Path, seed: int) -> dict[str, dict]:
    """The results that count: those of this seed whose outcome was right, by the names of the trials."""
    if not record.exists():
        return {}
    lines = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    return {line["name"]: line for line in lines if line["seed"] == seed and line["right"]}


def carry_out(trial: Trial, folder: Path, seed: int, keep: bool) -> dict:
    """Run one trial in a new folder, and return the line for the record."""
    place = folder / trial.name.replace(" ", "-").replace("/", "-")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    shared = folder / "shared" / trial.group.replace(" ", "-")
    shared.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    try:
        outcome = trial.run(Space(place, key(seed, trial.name), shared))
    except Exception:  # a trial that fails must not end the campaign
        (place / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8")
        said = traceback.format_exc().strip().splitlines()[-1]
        outcome = Outcome(False, trial.name, "", f"the trial itself failed: {said}")
    outcome = replace(outcome, came_back=outcome.came_back.replace(str(folder), "FOLDER"))  # for the page
    if outcome.right and not keep:
        shutil.rmtree(place, ignore_errors=True)
    seconds = round(time.monotonic() - began, 1)
    return {"name": trial.name, "group": trial.group, "seed": seed, "seconds": seconds, **asdict(outcome)}


def run_all(trials: list[Trial], folder: Path, seed: int, keep: bool, workers: int) -> Iterator[dict]:
    """The results, in the order in which the trials end."""
    with ThreadPoolExecutor(workers) as pool:  # a trial waits for its processes most of the time
        for done in as_completed([pool.submit(carry_out, t, folder, seed, keep) for t in trials]):
            yield done.result()


def main() -> int:
    """Run the trials that have no right result yet, print what was wrong, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m campaign", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="of all random moments and texts")
    parser.add_argument("--only", default="", help="part of the name of a group or trial")
    parser.add_argument(
        "--folder", type=Path, default=Path("../outputs/campaign"), help="results and folders"
    )
    parser.add_argument("--workers", type=int, default=2, help="trials at the same time")
    parser.add_argument("--keep", action="store_true", help="keep the folders of right trials too")
    options = parser.parse_args()
    if (
        signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    ):  # as a shell sets it for a command in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)  # processes of the trials would inherit it
    folder: Path = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "results.jsonl"

    wanted = [t for t in groups.trials(options.seed) if options.only in t.name or options.only in t.group]
    results = finished(record, options.seed)
    left = [t for t in wanted if t.name not in results]
    print(f"{len(wanted)} trials, {len(wanted) - len(left)} of them done, seed {options.seed}, {folder}")
    began = time.monotonic()
    with Bar("campaign", len(wanted), start=len(wanted) - len(left)) as bar, record.open("a") as lines:
        for result in run_all(left, folder, options.seed, options.keep, options.workers):
            lines.write(json.dumps(result, ensure_ascii=False) + "\n")
            lines.flush()
            results[result["name"]] = result
            bar.advance(result["name"])
            if not result["right"]:
                print(f"FAULT {result['name']}: {result['came_back']}", file=sys.stderr)
    print(f"this call took {duration(time.monotonic() - began)}")
    named = [t.name for t in groups.trials(options.seed)]
    if all(name in results for name in named):  # the page holds a whole campaign only
        reliability_page.write([results[name] for name in named], options.seed)
    return int(any(not results[t.name]["right"] for t in wanted))


if __name__ == "__main__":
    sys.exit(main())
