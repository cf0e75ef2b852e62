"""A soak's result for people, who may read it in the middle of the night."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from support.soak.judge_requests import PUBLISHED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.soak.run import Look, Result

__all__ = ["HEAD", "faults_of", "growth", "line", "report"]

MIB: Final = 1024 * 1024
GROWTH: Final = 3 * MIB
PER_GATE: Final = 64
"""The memory may grow, by the line of best fit, by 3 MiB and 64 bytes for each gate that
has ended meanwhile. The first is what the allocator's own unrest comes to; the second is less than the
smallest object that a gate could leave behind, with the reference to it."""

HEAD: Final = (
    "   time  waiting   opened  timed out   failed  cancelled  crossings  memory MiB  threads  sockets  "
    "longest stall s"
)


def line(look: Look) -> str:
    """Return a line of the table below ``HEAD``."""
    counts = Counter(look.counts)
    minutes, seconds = divmod(round(look.at), 60)
    return (
        f"{minutes:4}:{seconds:02}  {look.waiting:7,}  {counts['opened']:7,}  {counts['timeout']:9,}  "
        f"{counts['failed']:7,}  {counts['cancelled']:9,}  {counts['fired']:9,}  {look.memory / MIB:10.1f}  "
        f"{look.threads:7}  {look.sockets:7}  {look.longest_stall:15.1f}"
    )


def growth(memory: list[tuple[float, int]]) -> float:
    """Return the bytes by which the memory has grown, by the line that fits best."""
    middle = sum(at for at, _ in memory) / len(memory)
    mean = sum(each for _, each in memory) / len(memory)
    spread = sum((at - middle) ** 2 for at, _ in memory)
    slope = sum((at - middle) * (each - mean) for at, each in memory) / spread
    return slope * (memory[-1][0] - memory[0][0])


def allowed_growth(result: Result) -> float:
    """Return the bytes by which the memory may have grown."""
    since = min((each.joined for each in result.record.gates), default=0.0) + result.memory[0][0]
    return GROWTH + PER_GATE * sum(each.ended >= since for each in result.record.gates)


def faults_of(result: Result) -> list[str]:
    """Return what is wrong; empty where nothing is."""
    found = []
    gates, watchers, manners = result.gates.counts, result.watchers.counts, result.manners
    for name, count in (
        ("gates opened wrongly", gates["wrong"]),
        ("gates lost", gates["lost"]),
        ("crossings fired wrongly", watchers["wrong"]),
        ("crossings lost", watchers["lost"]),
        ("requests too soon", manners.too_soon),
        ("requests in a pause", manners.in_a_pause),
        (f"requests in 10 s beyond {PUBLISHED}", max(0, manners.most - PUBLISHED)),
    ):
        if count:
            found.append(f"{count:,} {name}")
    if growth(result.memory) > allowed_growth(result):
        found.append("the memory grows")
    found += [f"left behind: {name}: {what}" for name, what in result.left.items()]
    return found


def report(result: Result) -> str:
    """Return the whole report."""
    return "\n".join(_lines(result))


def _lines(result: Result) -> Iterator[str]:
    gates, watchers, manners = result.gates.counts, result.watchers.counts, result.manners
    yield _title(f"Gates: {sum(gates.values()):,}")
    yield _row("opened rightly", gates["opened"])
    yield _row("opened wrongly", gates["wrong"], wanted="0")
    yield _row("lost", gates["lost"], wanted="0")
    yield _row("timed out, on time", gates["timeout"])
    yield _row("failed, as the service had refused them", gates["failed"])
    yield _row("cancelled on order", gates["cancelled"])
    yield _title(f"Watchers: {len(result.record.watchers):,}")
    yield _row("crossings fired rightly", watchers["fired"])
    yield _row("crossings fired wrongly", watchers["wrong"], wanted="0")
    yield _row("crossings lost", watchers["lost"], wanted="0")
    yield _title(f"Requests: {len(result.record.requests):,}")
    yield _row("most with one key in any 10 s", manners.most, wanted=f"at most {PUBLISHED}")
    yield _row("sooner than one per interval and organization", manners.too_soon, wanted="0")
    yield _row("in a pause that a 429 asked for", manners.in_a_pause, wanted="0")
    yield _row("answered with a balance", sum(each.credits is not None for each in result.record.requests))
    yield _title("What went wrong on purpose, and how often")
    for name, count in sorted(result.done.items()):
        yield _row(name, count)
    yield _row("seconds away", round(sum(end - began for began, end in result.record.outages)))
    yield _title("Memory of the gates' process")
    yield _row("after the warm-up, MiB", f"{result.memory[0][1] / MIB:.1f}")
    yield _row("at the end, MiB", f"{result.memory[-1][1] / MIB:.1f}")
    allowed = f"at most {allowed_growth(result) / MIB:.1f}"
    yield _row("growth by the line of best fit, MiB", f"{growth(result.memory) / MIB:+.1f}", wanted=allowed)
    yield _title("Maximum at any sample")
    yield _row("threads", max(each.threads for each in result.looks))
    yield _row("sockets", max(each.sockets for each in result.looks))
    yield _row(
        "longest stall of the event loop, s", f"{max(each.longest_stall for each in result.looks):.1f}"
    )
    yield _title("Left when the last gate had gone")
    for name in ("polls", "threads", "sockets", "objects"):
        yield _row(name, str(result.left.get(name, 0)), wanted="0")
    complaints = [*result.gates.complaints, *result.watchers.complaints, *manners.complaints]
    if complaints:
        yield _title("What is wrong, the first of each")
        yield from (f"  {each}" for each in complaints)
    faults = faults_of(result)
    yield ""
    yield f"FAILED: {'; '.join(faults)}" if faults else "Passed: nothing wrong, nothing lost, nothing left."


def _title(text: str) -> str:
    return f"\n{text}"


def _row(name: str, value: int | str, wanted: str = "") -> str:
    shown = f"{value:,}" if isinstance(value, int) else value
    return f"  {name:<46} {shown:>12}{f'   ({wanted})' if wanted else ''}"
