"""Sum the events of a profiled step by phase: time, operators on the CPU and kernels on the device.

    marks = [Event("vigos:step", 0, 900, mark=True), Event("vigos:learn", 100, 700, mark=True)]
    times = phase_times([*marks, Event("aten::mm", 200, 300), Event("gemm", 210, 290, on_device=True)])
    times["learn"].seconds        # 600 ns, of which 100 ns in an operator and 80 ns on the device

A moment belongs to the innermost phase that is open. Each phase begins and ends when the device has
finished its work, so a kernel belongs to the phase in which it runs, also if another thread has started it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

PREFIX = "vigos:"  # of the marks that `Learner.timed` sets
WAITING = "Synchronize"  # in the names of the calls in which the processor waits for the device
SECOND = 1e9  # times of events are in nanoseconds


class Event(NamedTuple):
    """One event of the profiler. A mark is a named part of the program, and no work itself."""

    name: str
    start: int
    end: int
    on_device: bool = False
    mark: bool = False
    thread: int = 0


@dataclass(slots=True)
class PhaseTimes:
    """What one phase took, without the phases inside it. Times are in seconds."""

    calls: int = 0
    seconds: float = 0.0
    waiting: float = 0.0  # of the processor, for the device
    operators: Counter[str] = field(default_factory=Counter)  # calls by name
    on_cpu: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))  # without inner ones
    kernels: Counter[str] = field(default_factory=Counter)
    on_device: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))


def phase_times(events: Iterable[Event]) -> dict[str, PhaseTimes]:
    """The times of each phase by name, without the prefix; events outside of all phases are left out."""
    marks: list[Event] = []
    work: list[tuple[int, int, int, str]] = []  # thread, start, -end, name: an outer operator comes first
    kernels: list[Event] = []
    for event in events:
        if event.mark:
            if event.name.startswith(PREFIX) and not event.on_device and event.end > event.start:
                marks.append(event)
        elif event.on_device:
            kernels.append(event)
        else:
            work.append((event.thread, event.start, -event.end, event.name))
    times: defaultdict[str, PhaseTimes] = defaultdict(PhaseTimes)
    for mark in marks:
        times[mark.name.removeprefix(PREFIX)].calls += 1
    begins, phases = _timeline(marks)
    for i, phase in enumerate(phases[:-1]):
        if phase:
            times[phase].seconds += (begins[i + 1] - begins[i]) / SECOND

    def at(moment: int) -> str:
        place = bisect_right(begins, moment) - 1
        return phases[place] if place >= 0 else ""

    for kernel in kernels:
        if phase := at(kernel.start):
            times[phase].kernels[kernel.name] += 1
            times[phase].on_device[kernel.name] += (kernel.end - kernel.start) / SECOND
    work.sort()
    for (_, start, _, name), own in zip(work, _without_inner(work), strict=True):
        if phase := at(start):
            found = times[phase]
            if WAITING in name:
                found.waiting += own / SECOND
            else:
                found.operators[name] += 1
                found.on_cpu[name] += own / SECOND
    return dict(times)


def _timeline(marks: Iterable[Event]) -> tuple[list[int], list[str]]:
    """The moments at which the innermost open mark changes, and its phase from then on; "" for none."""
    edges = []
    for mark in marks:
        length = mark.end - mark.start
        edges.append((mark.start, 1, -length, mark.name))  # of marks that begin together the longest is outer
        edges.append((mark.end, 0, length, mark.name))
    begins, phases, opened = [], [], [""]
    for moment, opens, _, name in sorted(edges):
        if opens:
            opened.append(name.removeprefix(PREFIX))
        else:
            opened.pop()
        begins.append(moment)
        phases.append(opened[-1])
    return begins, phases


def _without_inner(work: list[tuple[int, int, int, str]]) -> list[int]:
    """The time of each event without the events inside it, for events that are sorted."""
    own, opened, thread = [], [], None
    for place, (of_thread, start, negative_end, _) in enumerate(work):
        end = -negative_end
        if of_thread != thread:
            opened, thread = [], of_thread
        while opened and opened[-1][1] <= start:
            opened.pop()
        if opened:
            own[opened[-1][0]] -= min(end, opened[-1][1]) - start
        own.append(end - start)
        opened.append((place, end))
    return own
