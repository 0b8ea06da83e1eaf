"""Tables of the serving benchmark and its goals (design section 7): medians over rounds, ratios round by round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.harness import Json, goal, show
from benchmarks.serving.systems import TITLES

_TORCH_PEERS = ("litserve", "bentoml", "ray")
_CLOSED = ("16 clients", "64 clients")
_CALL_BUDGET_MS = 1.5
_LATENCY = 0.75
_OF_CEILING = {"pawl": 1.2, "pawl_0.1": 1.5}
"""Rates at 64 clients, as multiples of the bare encoder's in process, on Banking77."""
_ANSWERS = ("accuracy", "by_words")
_COLUMNS = ("rate", "failed", "cpu", "memory_mib", "p50_ms", "p99_ms")


def report(rounds: Sequence[Json], titles: Mapping[str, str], lengths: Sequence[str]) -> None:
    """Prints one table for each length of text."""
    for name in lengths:
        rows = [_in_process([one["in-process"][name][size] for one in rounds], size) for size in _sizes(rounds, name)]
        for system, title in titles.items():
            for load in rounds[0][system][name]:
                found = [one[system][name][load] for one in rounds]
                rows.append([f"{title}, {load}", *(float(median(one[key] for one in found)) for key in _COLUMNS)])
        show(name, ("", "texts/s", "failed", "cores", "MiB", "p50 ms", "p99 ms"), rows)
    answered = [
        [f"{title}, {name}", *(float(median(one[system]["answers"][name][key] for one in rounds)) for key in _ANSWERS)]
        for system, title in titles.items()
        if "answers" in rounds[0][system]
        for name in lengths
    ]
    if answered:
        show("what is answered", ("", "right %", "by words alone %"), answered)


def goals(rounds: Sequence[Json], lengths: Sequence[str]) -> list[Json]:
    """Those that can be told from what was measured."""
    found: list[Json] = []
    for system, wanted in _OF_CEILING.items() if "banking77" in lengths else ():
        if system in rounds[0]:
            share = median(_rate(one, system, "banking77", "64 clients") / _ceiling(one, "banking77") for one in rounds)
            found.append(_at_least(f"banking77: {TITLES[system]} / in-process at 64 clients", share, wanted))
    found += _against_earlier(rounds, lengths)
    for name in lengths if "pawl" in rounds[0] else ():
        for load in _CLOSED:
            found += _against_peers(rounds, name, load)
        calls = [(one["pawl"][name]["1 clients"]["p50_ms"], one["in-process"][name]["1"]["call_ms"]) for one in rounds]
        late = median(served - alone for served, alone in calls)
        text = f"{name}: p50 at 1 client {late:.2f} ms above the in-process call, wanted <= {_CALL_BUDGET_MS}"
        found.append(goal(text, met=late <= _CALL_BUDGET_MS))
    return found


def _against_earlier(rounds: Sequence[Json], lengths: Sequence[str]) -> list[Json]:
    """What today's Pawl is beside an earlier commit of the same round, with the words' fast answers on and off."""
    found = []
    for name in lengths if "before" in rounds[0] else ():
        if "pawl" in rounds[0]:
            late = median(_mean_ms(one, "pawl", name) / _mean_ms(one, "before", name) for one in rounds)
            text = f"{name}: mean latency at 1 client {late:.2f} x the earlier commit's, wanted <= {_LATENCY}"
            found.append(goal(text, met=late <= _LATENCY))
        for load in ("1 clients", *_CLOSED) if "pawl_off" in rounds[0] else ():
            share = median(_rate(one, "pawl_off", name, load) / _rate(one, "before", name, load) for one in rounds)
            found.append(_at_least(f"{name}, {load}: without fast answers / the earlier commit", share, 0.97))
    return found


def _mean_ms(one: Json, system: str, name: str) -> float:
    return float(one[system][name]["1 clients"]["mean_ms"])


def _against_peers(rounds: Sequence[Json], name: str, load: str) -> list[Json]:
    found = []
    for suffix, what, wanted in (("", "the best peer on torch", 3.0), ("-pawl", "the best peer on its backend", 1.2)):
        there = [f"{peer}{suffix}" for peer in _TORCH_PEERS if f"{peer}{suffix}" in rounds[0]]
        if there:
            best = [max(_rate(one, peer, name, load) for peer in there) for one in rounds]
            found.append(_ratio(f"{name}, {load}: Pawl / {what}", rounds, (name, load), best, wanted))
    if "pipeline" in rounds[0]:
        theirs = [_rate(one, "pipeline", name, load) for one in rounds]
        found.append(_ratio(f"{name}, {load}: Pawl / FastAPI + pipeline", rounds, (name, load), theirs, 8.0))
    return found


def _ratio(what: str, rounds: Sequence[Json], where: tuple[str, str], theirs: Sequence[float], wanted: float) -> Json:
    ours = [_rate(one, "pawl", *where) for one in rounds]
    # a peer that answered nothing in the time was slower by any factor
    shares = [mine / other if other else float("inf") for mine, other in zip(ours, theirs, strict=True)]
    return _at_least(what, median(shares), wanted)


def _at_least(what: str, value: float, wanted: float) -> Json:
    return goal(f"{what}: {value:.2f}, wanted >= {wanted}", met=value >= wanted)


def _in_process(found: Sequence[Json], size: str) -> list[Any]:
    rate, call = (float(median(one[key] for one in found)) for key in ("texts_per_s", "call_ms"))
    return [f"in-process, batches of {size}", rate, "", "", "", call, ""]


def _sizes(rounds: Sequence[Json], name: str) -> list[str]:
    return list(rounds[0]["in-process"][name])


def _rate(one: Json, system: str, name: str, load: str) -> float:
    return float(one[system][name][load]["rate"])


def _ceiling(one: Json, name: str) -> float:
    """Of the size of batch that is fastest here."""
    return max(float(size["texts_per_s"]) for size in one["in-process"][name].values())
