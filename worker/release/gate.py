"""The gate: a candidate serves only if it is shown to be no worse than the version before it.

*Harm* is measured with the label space held fixed: texts of the labels that the version before knows, and these labels
as the answers. A text that goes to a label which is new in the batch is *overlap*, a trade: it is accepted where that
label's own leave-one-out gain clearly outweighs it, and reported by name either way (ADR 0023).

Pure functions of scores and targets. Fails closed: a number that is not finite, or a report that cannot be computed,
refuses the candidate.

Sources: exact McNemar test (McNemar 1947; the binomial form), Holm's step-down correction (Holm 1979), expected
calibration error (Guo et al., ICML 2017), progressive validation (Blum et al., COLT 1999).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pawl.classifier.calibration import expected_calibration_error, softmax
from pawl.domain.gate_reports import ClassReport, GateReport, PairedTest, TaskReport
from pawl.json_values import Json
from pawl.settings import Settings
from worker.model.class_balance import NEVER
from worker.model.exact_tests import McNemar
from worker.model.proposal import PairedScores
from worker.release.overlap import bad_trades, overlaps

_ALL, _GOLDEN = "accuracy", "golden accuracy"
_KNOWN, _HELDOUT = "accuracy among the known labels", "accuracy on held-out texts"
_ABSENT = "accuracy on classes without new samples"
Bools = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is judged of one task: scores as in `PairedScores`, the temperatures of both heads, served answers (k,)."""

    paired: PairedScores
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
    charged: Mapping[str, Collection[str]] | None = None,
) -> GateReport:
    """Compares a candidate with the live version in every task. `forced` passes all but numbers that are not finite.

    `charged` is, by task, what a batch was refused for that this is a part of: there the loss was shown to be more than
    chance, so that no part which adds to it passes as chance.
    """
    reasons: list[str] = []
    charges: dict[str, list[str]] = {}
    fatal: list[str] = []
    tasks: dict[str, TaskReport] = {}
    for task, case in evidence.items():
        if not _finite(case.paired):
            fatal.append(f"{task}: scores are not finite")
            continue
        tasks[task] = _task_report(case)
        found = _charges(tasks[task], settings, _felt(case.paired, (charged or {}).get(task, ())))
        reasons += [f"{task}: {problem}" for problem in found.values()]
        charges |= {task: list(found)} if found else {}
    if size_bytes is not None and size_bytes > settings.gate_max_bytes:
        reasons.append(f"the artefact has {size_bytes} bytes, allowed are {settings.gate_max_bytes}")
    if latency_ratio is not None and not latency_ratio <= settings.gate_max_latency_ratio:
        reasons.append(
            f"a text takes {latency_ratio:.2f} x the live time, allowed is {settings.gate_max_latency_ratio}"
        )
    accepted = not fatal and (forced is not None or not reasons)
    limits = _thresholds(settings)
    return GateReport(accepted, fatal + reasons, tasks, size_bytes, latency_ratio, forced, limits, charges)


def paired_test(live: Bools, candidate: Bools) -> PairedTest:
    """Exact one-sided McNemar test on paired outcomes (m,)."""
    n = len(live)
    test = McNemar.of(live, candidate)
    lost, gained = test.lost, test.gained
    if not n:
        return PairedTest(0, 0.0, 0.0, 0, 0, 1.0, (0.0, 0.0))
    change = (gained - lost) / n
    spread = 1.96 * math.sqrt(max(lost + gained - (gained - lost) ** 2 / n, 0.0)) / n
    return PairedTest(
        n, float(live.mean()), float(candidate.mean()), lost, gained, test.p_worse, (change - spread, change + spread)
    )


def _finite(paired: PairedScores) -> bool:
    return all(bool(s.isfinite().all()) for s in (paired.live, paired.candidate, paired.new_live, paired.new_candidate))


def _task_report(case: Evidence) -> TaskReport:
    paired = case.paired
    targets = paired.targets.cpu().numpy()
    live, candidate = paired.live.double().cpu().numpy(), paired.candidate.double().cpu().numpy()
    was, now = _right(live, targets), _right(candidate, targets)
    known, still = _with_fixed_labels(paired, candidate, targets, now)
    new_targets = paired.new_targets.cpu().numpy()
    heldout, golden, absent = _groups(paired, targets, known)
    new_live = paired.new_live.double().cpu().numpy()
    new_candidate = paired.new_candidate.double().cpu().numpy()
    hits = _answered_right(paired, new_live, case.served)
    learned = _right(new_candidate, new_targets)[~hits]
    return TaskReport(
        overall=paired_test(was, now),
        known=paired_test(was[known], still[known]),
        heldout=paired_test(was[heldout], still[heldout]),
        golden=paired_test(was[golden], now[golden]),
        forgetting=paired_test(was[absent], still[absent]),
        classes=_class_reports(paired.labels, targets, was, np.where(known, still, now), new_targets),
        overlaps=overlaps(paired, targets, was, now, candidate) if paired.fresh else (),
        prequential=float(hits.mean()) if len(hits) and new_live.max() > NEVER / 2 else None,
        corrections=len(learned),
        corrections_right=float(learned.mean()) if len(learned) else None,
        ece_live=_ece(live, targets, case.live_temperature),
        ece_candidate=_ece(candidate, targets, case.candidate_temperature),
        pinned_broken=[
            item.sample_id for item, a, b in zip(paired.items, was, now, strict=True) if item.pinned and a and not b
        ],
    )


def _groups(paired: PairedScores, targets: npt.NDArray[np.int64], known: Bools) -> tuple[Bools, Bools, Bools]:
    """Which items are held out, which are golden, and which have a label without new samples."""
    heldout = known & np.array([item.heldout for item in paired.items], dtype=bool)
    golden = np.array([item.golden for item in paired.items], dtype=bool)
    return heldout, golden, known & ~np.isin(targets, paired.new_targets.cpu().numpy())


def _with_fixed_labels(
    paired: PairedScores, candidate: Scores, targets: npt.NDArray[np.int64], now: Bools
) -> tuple[Bools, Bools]:
    """Which items have a label that the live head knows, and where the candidate is right among these labels alone."""
    if not paired.fresh:
        return np.ones(len(targets), dtype=bool), now
    held = candidate.copy()
    held[:, list(paired.fresh)] = NEVER
    return ~np.isin(targets, paired.fresh), _right(held, targets)


def _felt(paired: PairedScores, charged: Collection[str]) -> set[str]:
    """Of what is charged, that in which this part itself costs answers of the head that it is built on."""
    if not charged:
        return set()
    targets = paired.targets.cpu().numpy()
    before = (paired.live if paired.present is None else paired.present).double().cpu().numpy()
    after = paired.candidate.double().cpu().numpy()
    had, has = _right(before, targets), _right(after, targets)
    known, held = _with_fixed_labels(paired, before, targets, had)
    _, holds = _with_fixed_labels(paired, after, targets, has)
    cost = had.astype(np.int64) - has
    within = np.where(known, held.astype(np.int64) - holds, cost)
    heldout, golden, absent = _groups(paired, targets, known)
    costs = {name: cost[rows].sum() for name, rows in ((_ALL, slice(None)), (_GOLDEN, golden))}
    costs |= {name: within[rows].sum() for name, rows in ((_KNOWN, known), (_HELDOUT, heldout), (_ABSENT, absent))}
    costs |= {f"class {label!r}": within[targets == column].sum() for column, label in enumerate(paired.labels)}
    return {name for name in charged if costs.get(name, 0) > 0}


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


def _charges(report: TaskReport, settings: Settings, charged: Collection[str]) -> dict[str, str]:
    """What a candidate is refused for, name -> sentence. A loss must be more than chance, but for what is `charged`."""
    found = {}
    paired = {
        _ALL: report.overall,
        _KNOWN: report.known,
        _HELDOUT: report.heldout,
        _GOLDEN: report.golden,
        _ABSENT: report.forgetting,
    }
    if report.known == report.overall:
        del paired[_KNOWN]  # no label is new: it is the same
    for name, test in paired.items():
        is_proven = test.p_value < settings.gate_alpha or name in charged
        if is_proven and test.live - test.candidate > settings.gate_max_drop:
            found[name] = f"{name} falls from {test.live:.4f} to {test.candidate:.4f} (p = {test.p_value:.2g})"
    proven = {one.label for one in _holm(report.classes, settings.gate_class_alpha)}
    for one in report.classes:
        name = f"class {one.label!r}"
        if (one.label in proven or name in charged) and one.live - one.candidate > settings.gate_max_class_drop:
            found[name] = f"{name} falls from {one.live:.3f} to {one.candidate:.3f} (p = {one.p_value:.2g})"
    if report.ece_live is not None and report.ece_candidate is not None:
        rise = report.ece_candidate - report.ece_live
        if rise > settings.gate_max_ece_rise:
            found["ece"] = f"calibration error rises from {report.ece_live:.3f} to {report.ece_candidate:.3f}"
    if report.pinned_broken:
        found["pinned"] = f"pinned samples are now wrong: {', '.join(report.pinned_broken[:5])}"
    return found | {f"overlap {label!r}": why for label, why in bad_trades(report, settings).items()}


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


def _answered_right(paired: PairedScores, new_live: Scores, served: Sequence[str | None]) -> Bools:
    """Progressive validation: was the answer that was served, or else the live head's, the label that came?"""
    would = _right(new_live, paired.new_targets.cpu().numpy())
    return np.array(
        [
            guess if said is None else said == paired.labels[target]
            for said, guess, target in zip(served, would, paired.new_targets.tolist(), strict=True)
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
