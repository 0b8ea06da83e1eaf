"""The gate: a candidate serves only if it is shown to be no worse than the version before it.

*Harm* is measured with the label space held fixed: texts of the labels that the version before knows, and these labels
as the answers. A text that goes to a label which is new in the batch is *overlap*: it is accepted if that label's own
leave-one-out gain clearly outweighs it, and reported by name either way (ADR 0023).

The gate fails closed: a number that is not finite refuses the candidate, and so does a report that cannot be made.

Sources: exact McNemar test (McNemar 1947; the binomial form), Holm's step-down correction (Holm 1979), expected
calibration error (Guo et al., ICML 2017), progressive validation (Blum et al., COLT 1999).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pawl.classifier.calibration import expected_calibration_error, softmax
from pawl.domain.gate_reports import ClassReport, GateReport, PairedTest, TaskReport
from pawl.json_values import Json
from pawl.settings import Settings
from worker.model.class_balance import NEVER
from worker.model.exact_tests import McNemar
from worker.model.proposal import PairedScores
from worker.release.outcomes import (
    ABSENT,
    ALL,
    GOLDEN,
    HELDOUT,
    KNOWN,
    Bools,
    Indices,
    Outcomes,
    Scores,
    as_array,
    class_name,
    right,
)
from worker.release.overlap import excessive_overlaps, overlaps

_FEWEST_CALIBRATED = 300
"""Items from which on the calibration error is judged: of two perfect calibrations one is 0.05 above the other by
chance in 8 % of the cases with 120 items, and in 1 % with so many (docs/log.md, 2026-11-29).
"""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is judged of one task: scores, the temperatures of both heads, and the answers (k,) that were served.

    A served answer is None if it is not known; the live head's takes its place.
    """

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
    """Compares a candidate with the live version in every task.

    Args:
        evidence: by task.
        settings: with the thresholds, `gate_*`.
        size_bytes: of the candidate's artefacts.
        latency_ratio: time per text of the candidate over that of the live version; for another encoder.
        forced: why the candidate is accepted whatever is found, but for numbers that are not finite.
        charged: by task, what a batch was refused for that this is a part of. The loss was shown to be more than chance
            there, so no part that adds to it passes as chance.
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
        problems = _charges(tasks[task], settings, _costly(case.paired, (charged or {}).get(task, ())))
        reasons += [f"{task}: {problem}" for problem in problems.values()]
        charges |= {task: list(problems)} if problems else {}
    if size_bytes is not None and size_bytes > settings.gate_max_bytes:
        reasons.append(f"the artefact has {size_bytes} bytes, allowed are {settings.gate_max_bytes}")
    if latency_ratio is not None and not latency_ratio <= settings.gate_max_latency_ratio:  # `not <=`: NaN is refused
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
    # 95 % interval (Wald) of a difference of paired shares: sqrt(b + c - (c - b)^2 / n) / n, b = lost and c = gained.
    # For the reader of a report; what decides is the exact test.
    spread = 1.96 * math.sqrt(max(lost + gained - (gained - lost) ** 2 / n, 0.0)) / n
    return PairedTest(
        n, float(live.mean()), float(candidate.mean()), lost, gained, test.p_worse, (change - spread, change + spread)
    )


def _finite(paired: PairedScores) -> bool:
    return all(bool(s.isfinite().all()) for s in (paired.live, paired.candidate, paired.new_live, paired.new_candidate))


def _task_report(case: Evidence) -> TaskReport:
    paired, outcomes = case.paired, Outcomes.of(case.paired, case.paired.live)
    tests = {name: paired_test(before, after) for name, (before, after) in outcomes.pairs().items()}
    new_targets, new_live = paired.new_targets.cpu().numpy(), as_array(paired.new_live)
    hits = _answered_right(paired, new_live, case.served)
    # Of the labels that contradict what was served: how many the candidate answers as it was corrected.
    learned = right(as_array(paired.new_candidate), new_targets)[~hits]
    return TaskReport(
        overall=tests[ALL],
        known=tests[KNOWN],
        heldout=tests[HELDOUT],
        golden=tests[GOLDEN],
        forgetting=tests[ABSENT],
        classes=_class_reports(paired.labels, outcomes, new_targets),
        overlaps=overlaps(paired, outcomes),
        prequential=float(hits.mean()) if len(hits) and new_live.max() > NEVER / 2 else None,
        corrections=len(learned),
        corrections_right=float(learned.mean()) if len(learned) else None,
        ece_live=_calibration_error(paired.live, outcomes.targets, case.live_temperature),
        ece_candidate=_calibration_error(paired.candidate, outcomes.targets, case.candidate_temperature),
        pinned_broken=[
            item.sample_id
            for item, before, after in zip(paired.items, *outcomes.plain, strict=True)
            if item.pinned and before and not after
        ],
    )


def _costly(paired: PairedScores, charged: Collection[str]) -> set[str]:
    """Of what is charged, that in which this part itself costs answers of the head that it is built on."""
    if not charged:
        return set()
    outcomes = Outcomes.of(paired, paired.live if paired.present is None else paired.present)
    pairs = outcomes.pairs()
    pairs |= {class_name(label): outcomes.of_class(column) for column, label in enumerate(paired.labels)}
    return {name for name in charged if name in pairs and pairs[name][0].sum() > pairs[name][1].sum()}


def _class_reports(labels: Sequence[str], outcomes: Outcomes, new: Indices) -> list[ClassReport]:
    reports = []
    arrivals = np.bincount(new, minlength=len(labels))
    for column, label in enumerate(labels):
        test = paired_test(*outcomes.of_class(column))
        if test.items or arrivals[column]:
            counts = (test.items, test.live, test.candidate, test.lost, test.gained)
            reports.append(ClassReport(label, *counts, test.p_value, int(arrivals[column])))
    return reports


def _charges(report: TaskReport, settings: Settings, charged: Collection[str]) -> dict[str, str]:
    """What a candidate is refused for, name -> sentence. A loss must be more than chance, but for what is `charged`."""
    charges = {}
    tests = {
        ALL: report.overall,
        KNOWN: report.known,
        HELDOUT: report.heldout,
        GOLDEN: report.golden,
        ABSENT: report.forgetting,
    }
    if report.known == report.overall:
        del tests[KNOWN]  # no label is new: it is the same
    for name, test in tests.items():
        is_proven = test.p_value < settings.gate_alpha or name in charged
        if is_proven and test.live - test.candidate > settings.gate_max_drop:
            charges[name] = f"{name} falls from {test.live:.4f} to {test.candidate:.4f} (p = {test.p_value:.2g})"
    proven = {each.label for each in _holm(report.classes, settings.gate_class_alpha)}
    for each in report.classes:
        name = class_name(each.label)
        if (each.label in proven or name in charged) and each.live - each.candidate > settings.gate_max_class_drop:
            charges[name] = f"{name} falls from {each.live:.3f} to {each.candidate:.3f} (p = {each.p_value:.2g})"
    if report.ece_live is not None and report.ece_candidate is not None:
        rise = report.ece_candidate - report.ece_live
        if rise > settings.gate_max_ece_rise:
            charges["ece"] = f"calibration error rises from {report.ece_live:.3f} to {report.ece_candidate:.3f}"
    if report.pinned_broken:
        charges["pinned"] = f"pinned samples are now wrong: {', '.join(report.pinned_broken[:5])}"
    return charges | {f"overlap {label!r}": why for label, why in excessive_overlaps(report, settings).items()}


def _holm(classes: Sequence[ClassReport], alpha: float) -> list[ClassReport]:
    """Classes whose loss is significant with the family-wise error held at alpha (Holm's step-down correction)."""
    tested = sorted((each for each in classes if each.items), key=lambda each: each.p_value)
    for rank, each in enumerate(tested):
        if each.p_value > alpha / (len(tested) - rank):
            return tested[:rank]
    return tested


def _answered_right(paired: PairedScores, new_live: Scores, served: Sequence[str | None]) -> Bools:
    """Progressive validation: was the answer that was served, or else the live head's, the label that came?"""
    would = right(new_live, paired.new_targets.cpu().numpy())
    return np.array(
        [
            guess if said is None else said == paired.labels[target]
            for said, guess, target in zip(served, would, paired.new_targets.tolist(), strict=True)
        ],
        dtype=bool,
    )


def _calibration_error(scores: torch.Tensor, targets: Indices, temperature: float) -> float | None:
    """None where it says nothing: too few items for 15 bins, or, before the first version, nobody who answers."""
    if len(targets) < _FEWEST_CALIBRATED or float(scores.max()) < NEVER / 2:
        return None
    return float(expected_calibration_error(softmax(as_array(scores) / temperature), targets))


def _thresholds(settings: Settings) -> Json:
    return {name: getattr(settings, name) for name in type(settings).model_fields if name.startswith("gate_")}
