"""The gate: a candidate serves only if it is shown to be no worse than the live version.

Pure functions of scores and targets. Fails closed: a number that is not finite, or a report that cannot be computed,
refuses the candidate.

Sources: exact McNemar test (McNemar 1947; the binomial form), Holm's step-down correction (Holm 1979), expected
calibration error (Guo et al., ICML 2017), progressive validation (Blum et al., COLT 1999).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import bdtrc

from app.core.classifier.calibration import expected_calibration_error, softmax
from app.core.domain.gate_reports import ClassReport, GateReport, PairedTest, TaskReport
from app.core.domain.versions import Json
from app.core.settings import Settings
from worker.proposals import NEVER, Judged

Bools = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is judged of one task: scores as in `Judged`, the temperatures of both heads, served answers (k,)."""

    judged: Judged
    live_temperature: float
    candidate_temperature: float
    served: Sequence[str | None]


def judge(
    evidence: Mapping[str, Evidence],
    settings: Settings,
    *,
    size_bytes: int | None = None,
    latency_ratio: float | None = None,
    forced: str | None = None,
) -> GateReport:
    """Compares a candidate with the live version in every task. `forced` passes all but numbers that are not finite."""
    reasons: list[str] = []
    fatal: list[str] = []
    tasks: dict[str, TaskReport] = {}
    for task, case in evidence.items():
        if not _finite(case.judged):
            fatal.append(f"{task}: scores are not finite")
            continue
        tasks[task] = _task_report(case)
        reasons += [f"{task}: {problem}" for problem in _problems(tasks[task], settings)]
    if size_bytes is not None and size_bytes > settings.gate_max_bytes:
        reasons.append(f"the artefact has {size_bytes} bytes, allowed are {settings.gate_max_bytes}")
    if latency_ratio is not None and not latency_ratio <= settings.gate_max_latency_ratio:
        reasons.append(
            f"a text takes {latency_ratio:.2f} x the live time, allowed is {settings.gate_max_latency_ratio}"
        )
    accepted = not fatal and (forced is not None or not reasons)
    return GateReport(
        accepted, fatal + reasons, tasks, size_bytes, latency_ratio, forced, thresholds=_thresholds(settings)
    )


def paired_test(live: Bools, candidate: Bools) -> PairedTest:
    """Exact one-sided McNemar test on paired outcomes (m,)."""
    n = len(live)
    lost, gained = int((live & ~candidate).sum()), int((~live & candidate).sum())
    p_value = float(bdtrc(lost - 1, lost + gained, 0.5)) if lost + gained else 1.0
    if not n:
        return PairedTest(0, 0.0, 0.0, 0, 0, 1.0, (0.0, 0.0))
    change = (gained - lost) / n
    spread = 1.96 * math.sqrt(max(lost + gained - (gained - lost) ** 2 / n, 0.0)) / n
    return PairedTest(
        n, float(live.mean()), float(candidate.mean()), lost, gained, p_value, (change - spread, change + spread)
    )


def _finite(judged: Judged) -> bool:
    return all(bool(s.isfinite().all()) for s in (judged.live, judged.candidate, judged.new_live, judged.new_candidate))


def _task_report(case: Evidence) -> TaskReport:
    judged = case.judged
    targets = judged.targets.cpu().numpy()
    live, candidate = judged.live.double().cpu().numpy(), judged.candidate.double().cpu().numpy()
    was, now = _right(live, targets), _right(candidate, targets)
    new_targets = judged.new_targets.cpu().numpy()
    absent = ~np.isin(targets, new_targets)
    heldout = np.array([item.heldout for item in judged.items], dtype=bool)
    golden = np.array([item.golden for item in judged.items], dtype=bool)
    new_live = judged.new_live.double().cpu().numpy()
    new_candidate = judged.new_candidate.double().cpu().numpy()
    hits = _answered_right(judged, new_live, case.served)
    learned = _right(new_candidate, new_targets)[~hits]
    return TaskReport(
        overall=paired_test(was, now),
        heldout=paired_test(was[heldout], now[heldout]),
        golden=paired_test(was[golden], now[golden]),
        forgetting=paired_test(was[absent], now[absent]),
        classes=_class_reports(judged.labels, targets, _right_before(judged, was, now), now, new_targets),
        prequential=float(hits.mean()) if len(hits) and new_live.max() > NEVER / 2 else None,
        corrections=len(learned),
        corrections_right=float(learned.mean()) if len(learned) else None,
        ece_live=_ece(live, targets, case.live_temperature),
        ece_candidate=_ece(candidate, targets, case.candidate_temperature),
        pinned_broken=[
            item.sample_id for item, a, b in zip(judged.items, was, now, strict=True) if item.pinned and a and not b
        ],
    )


def _right_before(judged: Judged, was: Bools, now: Bools) -> Bools:
    """What the classes are compared with: the present live head or, in a part of a refused batch, the earlier one.

    Otherwise labels that ruin a class together would pass in parts, each of which costs a little less than too much.
    A part is held to the earlier head in those classes only in which it costs an answer itself. Comparisons over all
    classes stay with the present: there a batch of new classes, which must cost something, would never get in.
    """
    if judged.earlier is None:
        return was
    targets = judged.targets.cpu().numpy()
    then = _right(judged.earlier.double().cpu().numpy(), targets)
    return np.where(np.isin(targets, targets[then & was & ~now]), then, was)


def _class_reports(
    labels: Sequence[str], targets: npt.NDArray[np.int64], was: Bools, now: Bools, new: npt.NDArray[np.int64]
) -> list[ClassReport]:
    reports = []
    arrivals = np.bincount(new, minlength=len(labels))
    for index, label in enumerate(labels):
        own = targets == index
        if own.any() or arrivals[index]:
            test = paired_test(was[own], now[own])
            reports.append(
                ClassReport(
                    label, test.items, test.live, test.candidate, test.lost, test.gained, test.p_value,
                    int(arrivals[index]),
                )
            )  # fmt: skip
    return reports


def _problems(report: TaskReport, settings: Settings) -> list[str]:
    problems = []
    for name, test in (("accuracy", report.overall), ("golden accuracy", report.golden)):
        drop = test.live - test.candidate
        if test.p_value < settings.gate_alpha and drop > settings.gate_max_drop:
            problems.append(f"{name} falls from {test.live:.4f} to {test.candidate:.4f} (p = {test.p_value:.2g})")
    test = report.forgetting
    if test.p_value < settings.gate_alpha and test.live - test.candidate > settings.gate_max_drop:
        problems.append(f"classes without new samples fall from {test.live:.4f} to {test.candidate:.4f}")
    problems += [
        f"recall of {one.label!r} falls from {one.live:.3f} to {one.candidate:.3f} (p = {one.p_value:.2g})"
        for one in _holm(report.classes, settings.gate_class_alpha)
        if one.live - one.candidate > settings.gate_max_class_drop
    ]
    if report.ece_live is not None and report.ece_candidate is not None:
        rise = report.ece_candidate - report.ece_live
        if rise > settings.gate_max_ece_rise:
            problems.append(f"calibration error rises from {report.ece_live:.3f} to {report.ece_candidate:.3f}")
    if report.pinned_broken:
        problems.append(f"pinned samples are now wrong: {', '.join(report.pinned_broken[:5])}")
    return problems


def _holm(classes: Sequence[ClassReport], alpha: float) -> list[ClassReport]:
    """Classes whose loss is significant with the family-wise error held at alpha."""
    tested = sorted((one for one in classes if one.items), key=lambda one: one.p_value)
    found = []
    for rank, one in enumerate(tested):
        if one.p_value > alpha / (len(tested) - rank):
            break
        found.append(one)
    return found


def _right(scores: Scores, targets: npt.NDArray[np.int64]) -> Bools:
    if not len(targets):
        return np.zeros(0, dtype=bool)
    return np.asarray((scores.argmax(1) == targets) & (scores.max(1) > NEVER / 2), dtype=bool)


def _answered_right(judged: Judged, new_live: Scores, served: Sequence[str | None]) -> Bools:
    """Progressive validation: was the answer that was served, or else the live head's, the label that came?"""
    would = _right(new_live, judged.new_targets.cpu().numpy())
    return np.array(
        [
            guess if said is None else said == judged.labels[target]
            for said, guess, target in zip(served, would, judged.new_targets.tolist(), strict=True)
        ],
        dtype=bool,
    )


def _ece(scores: Scores, targets: npt.NDArray[np.int64], temperature: float) -> float | None:
    """None where it says nothing: too few items for 15 bins, or, before the first version, nobody who answers."""
    if len(targets) < 100 or scores.max() < NEVER / 2:
        return None
    return float(expected_calibration_error(softmax(scores / temperature), targets))


def _thresholds(settings: Settings) -> Json:
    return {name: getattr(settings, name) for name in type(settings).model_fields if name.startswith("gate_")}
