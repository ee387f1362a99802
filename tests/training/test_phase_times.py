"""Each event of a profiled step counts once, in the innermost phase that is open when it begins."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vigos_cli.training.phase_times import Event, phase_times

S = 10**9
MARKS = [
    Event("vigos:step", 0, 100 * S, mark=True),
    Event("vigos:learn", 10 * S, 60 * S, mark=True),
    Event("vigos:loss", 20 * S, 30 * S, mark=True),
    Event("vigos:loss", 40 * S, 45 * S, mark=True),
    Event("vigos:teachers", 70 * S, 90 * S, mark=True),
]


def test_a_phase_has_the_time_without_the_phases_inside_it():
    times = phase_times(MARKS)
    assert {name: found.seconds for name, found in times.items()} == {
        "step": 30,
        "learn": 35,
        "loss": 15,
        "teachers": 20,
    }
    assert {name: found.calls for name, found in times.items()} == {
        "step": 1,
        "learn": 1,
        "loss": 2,
        "teachers": 1,
    }


def test_an_operator_has_the_time_without_the_operators_inside_it():
    outer = Event("aten::linear", 11 * S, 19 * S)
    inner = [Event("aten::mm", 12 * S, 15 * S), Event("aten::add", 15 * S, 16 * S)]
    backward = Event("aten::mm", 21 * S, 24 * S, thread=2)  # of autograd's own thread, while the loss is open
    outside = Event("aten::mm", 200 * S, 300 * S)
    times = phase_times([*inner, outer, *MARKS, backward, outside])
    assert dict(times["learn"].on_cpu) == {"aten::linear": 4, "aten::mm": 3, "aten::add": 1}
    assert dict(times["loss"].on_cpu) == {"aten::mm": 3}
    assert sum(found.operators.total() for found in times.values()) == 4


def test_a_kernel_belongs_to_the_phase_in_which_it_runs():
    kernels = [
        Event("gemm", 12 * S, 14 * S, on_device=True),
        Event("gemm", 22 * S, 25 * S, on_device=True, thread=7),
        Event("softmax", 80 * S, 81 * S, on_device=True),
        Event("vigos:learn", 10 * S, 60 * S, on_device=True, mark=True),  # the profiler's copy of a mark
        Event("Optimizer.step", 70 * S, 90 * S, on_device=True, mark=True),
    ]
    waiting = Event("cudaDeviceSynchronize", 50 * S, 59 * S)
    times = phase_times([*MARKS, *kernels, waiting])
    assert {name: dict(found.on_device) for name, found in times.items() if found.on_device} == {
        "learn": {"gemm": 2},
        "loss": {"gemm": 3},
        "teachers": {"softmax": 1},
    }
    assert times["learn"].waiting == 9 and times["learn"].operators.total() == 0
    assert [times[name].kernels.total() for name in ("step", "learn", "loss", "teachers")] == [0, 1, 1, 1]


@given(st.lists(st.tuples(st.integers(0, 120), st.integers(0, 40)), max_size=12), st.randoms())
def test_the_sum_over_all_operators_is_the_time_in_which_one_is_open(spans, shuffled):
    """For operators of one thread, which are nested or apart, as those of a program are."""
    events: list[Event] = []
    for low, length in spans:
        event = Event("op", low * S, (low + length) * S)
        if all(_nested(event, other) for other in events):
            events.append(event)
    covered = {moment for e in events for moment in range(e.start // S, e.end // S)}
    shuffled.shuffle(events)
    found = phase_times([Event("vigos:step", 0, 200 * S, mark=True), *events])["step"]
    assert round(sum(found.on_cpu.values())) == len(covered)


def _nested(a: Event, b: Event) -> bool:
    apart = a.end <= b.start or b.end <= a.start
    return apart or (a.start <= b.start and b.end <= a.end) or (b.start <= a.start and a.end <= b.end)
