"""Trials: the pages that the real commands have written from hostile texts, opened in Chromium.

A script that ran would add an element or change the title; a request would be seen by the browser's own log
and by a local server, whose address stands in the texts. The layout is measured at 1280 and at 390 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from campaign.browser import CHROMIUM, Browser
from campaign.hostile_grammar import KINDS
from campaign.hostile_runs import SHOWN, Counter, all_runs
from campaign.trial import Outcome, Space, Trial

GROUP = "pages made of hostile texts"
WIDTHS = (1280, 390)
SECONDS = 15.0  # until a page is shown, on a busy machine
ALL = """(async () => {  // everything that a reader could scroll to is built
  const more = document.getElementById("more");
  for (let i = 0; more && !more.hidden && i < 500; i++) {
    more.click();
    await new Promise((done) => setTimeout(done, 0));
  }
  for (const one of document.querySelectorAll("details")) one.open = true;
  return document.querySelectorAll("article").length;
})()"""
MEASURED = """(() => {
  for (const one of document.querySelectorAll("article")) one.style.contentVisibility = "visible";
  scrollTo(0, 0);
  const root = document.documentElement;
  const header = document.querySelector("header, h1").getBoundingClientRect();
  const main = document.querySelector("#list, main > p, main").getBoundingClientRect();
  const bar = document.querySelector(".bar")?.getBoundingClientRect() ?? header;
  const wide = [...document.querySelectorAll("body *")].filter((one) => {
    if (one.closest(".wide, figure, svg, #card") || !one.getClientRects().length) return false;
    const at = one.getBoundingClientRect();
    return at.right > root.clientWidth + 1 || at.left < -1;
  }).map((one) => `${one.tagName}.${one.className}`);
  const after = [...document.querySelectorAll("bdi")].filter((one) => {  // what follows stays to the right
    const next = one.nextSibling;
    if (!next || next.nodeType !== 3 || !next.textContent.trim()) return false;
    const range = document.createRange();
    range.selectNodeContents(next);
    const its = range.getClientRects()[0], own = [...one.getClientRects()].at(-1);
    return its && own && Math.abs(its.top - own.top) < 4 && its.left < own.right - 1;
  }).length;
  return {
    taken: !!document.getElementById("taken") || document.title.startsWith("taken"),
    alien: [...document.querySelectorAll("body *")].filter((one) => [...one.attributes].some((a) =>
      /^on/i.test(a.name) || (/^(src|href|action|data|poster)$/i.test(a.name)
        && !/^(data:|#|looking|[^:]*$)/.test(a.value)))).length,
    tags: [...new Set([...document.querySelectorAll("*")].map((one) => one.tagName.toLowerCase()))],
    scroll: root.scrollWidth - root.clientWidth, wide: [...new Set(wide)].slice(0, 5), after,
    header: !!document.querySelector("header") && Math.max(header.bottom, bar.bottom) > main.top + 1,
    marks: (document.body.innerText
      .match(/[\\u202a-\\u202e\\u2066-\\u2069\\u200e\\u200f\\0\\x07\\x1b]/g) ?? []).length,
  };
})()"""
FOREIGN = {"iframe", "object", "embed", "video", "math", "textarea", "base", "plaintext", "xmp"}


@dataclass(frozen=True, slots=True)
class Shown:
    """A page: the run that has written it, its file, what it shows, and how many texts."""

    run: str
    file: str
    what: str
    cases: int = SHOWN * len(KINDS)


PAGES = (
    Shown("eval", "report.html", "saved responses with their ids, questions and references"),
    Shown("eval with groups", "report.html", "names of groups in charts and filters"),
    Shown("eval of a model", "report.html", "questions that a model was asked, with pictures", 32),
    Shown("rollout", "rollouts.html", "rows, and the tokens of a model", 32),
    Shown("ablate", "report.html", "labels of arms and answers of a sweep", 24),
)


def trials(seed: int) -> list[Trial]:
    """One trial for each page."""
    return [Trial(f"page of {page.run}", GROUP, partial(opened, page=page, seed=seed)) for page in PAGES]


def opened(space: Space, page: Shown, seed: int) -> Outcome:
    """Open the page at both widths and look for everything that must not be there."""
    moment, did = f"{page.file} of vigos {page.run}", f"opened in Chromium: {page.what}"
    if CHROMIUM is None:
        return Outcome(True, moment, did, "not tried: Chromium is not installed", 0)
    run = all_runs(space.shared.parent, seed)[page.run]
    faults, seconds, items = look(run.out / page.file, space.folder)
    if faults:
        return Outcome(False, moment, did, "; ".join(faults)[:400], page.cases)
    back = (
        f"shown after {seconds:.1f} s; no script ran, nothing was asked for, no marks, no sideways scrolling"
    )
    return Outcome(True, moment, did, f"{back} ({items} entries)" if items else back, page.cases)


def look(file: Path, folder: Path) -> tuple[list[str], float, int]:
    """The faults of a page, the seconds until it was shown, and the number of its entries."""
    faults, slowest, items = [], 0.0, 0
    asked = len(Counter.asked)
    with Browser(folder) as browser:
        for width in WIDTHS:
            page = browser.open(file, width)
            page.picture(folder / f"top-{width}.png")
            items = page.value(ALL)
            page.value("scrollTo(0, 1500)")
            page.picture(folder / f"further-{width}.png")
            slowest = max(slowest, page.seconds)
            faults += [f"at {width} pixels: {fault}" for fault in wrong(page.value(MEASURED))]
            faults += [f"asked for {url}" for url in page.requests()]
            faults += [f"the browser says: {text[:120]}" for text in page.complaints()]
    if slowest > SECONDS:
        faults.append(f"shown after {slowest:.1f} s")
    if len(Counter.asked) > asked:
        faults.append(f"asked the local server for {Counter.asked[-1]}")
    return list(dict.fromkeys(faults)), slowest, items


def wrong(found: dict[str, Any]) -> list[str]:
    """What is wrong with a page that was measured."""
    faults = []
    if found["taken"]:
        faults.append("a script of a text ran")
    if found["alien"]:
        faults.append(f"{found['alien']} elements with a handler or an address of a text")
    if foreign := FOREIGN & set(found["tags"]):
        faults.append(f"elements of a text: {', '.join(sorted(foreign))}")
    if found["scroll"] > 0 or found["wide"]:
        faults.append(f"{found['scroll']} pixels wider than the window: {', '.join(found['wide'])}")
    if found["header"]:
        faults.append("the entries overlap the header")
    if found["after"]:
        faults.append(f"{found['after']} texts are shown in front of what stands before them")
    if found["marks"]:
        faults.append(f"{found['marks']} control characters")
    return faults
