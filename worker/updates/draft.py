"""What of a step goes into a candidate's folder and row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pawl.classifier.lexical_head import WordsAlone
from pawl.classifier.served_heads import ServedHeads
from pawl.domain.gate_reports import GateReport
from pawl.json_values import Json
from worker.release.publisher import Draft
from worker.state.chosen import chosen_metrics
from worker.state.learner_state import LearnerState, TaskNovelty
from worker.state.words_rules import FAILED_AT, WordsRules, rules_after
from worker.updates.step import Step


def draft_of(state: LearnerState, step: Step, novelty: Mapping[str, TaskNovelty]) -> Draft:
    """The candidate that a step makes of the live version."""
    state = replace(state, words=words_after(state, step))
    heads = step.staying(state.heads(step.proposals, novelty))
    of_task = {task: model.hyperparameters for task, model in state.tasks.items()}
    of_task |= {task: proposal.hyperparameters for task, proposal in step.proposals.items()}
    chosen = chosen_metrics(of_task)
    return Draft(
        kind=step.kind,
        trigger=step.trigger,
        parent=state.version or None,
        encoder_folder=state.encoder_folder,
        encoder_digest=state.encoder.digest,
        heads=heads,
        features=state.features,
        settings=chosen | state.settings.model_dump(include={"young_class_size", "prior_correction"}),
        made_with=state.made_with,
        watermark=max([state.watermark, *(sample.seq for sample in step.adds)]),
        samples_new=len(step.adds),
        metrics=chosen
        | {"encoder_watermark": state.encoder_watermark}
        | words_metrics(state, heads)
        | ({"label_change": step.label.id} if step.label else {}),
        reason=step.label.reason if step.label else step.reason,
    )


def words_after(state: LearnerState, step: Step) -> dict[str, WordsRules]:
    """What words must not answer alone after a step. Texts of samples that it only holds stay among them."""
    leaving = {task: [example.order for example in change.removes] for task, change in step.changes.items()}
    return dict(step.staying(rules_after(state.words, step.adds, leaving)))


def words_metrics(state: LearnerState, heads: Mapping[str, ServedHeads]) -> Json:
    """By task how many texts words are to answer alone, or why none; and where the words monitor spoke against them."""
    report: Json = {}
    for task, served in heads.items():
        alone = served.lexical.alone if served.lexical is not None else None
        if alone is None:
            continue
        report[task] = {"share": alone.share or 0.0, "kept": len(alone.kept)}
        if alone.threshold is None:
            report[task]["reason"] = _why_silent(state, task, alone)
    failed = {task: rules.failed_at for task, rules in state.words.items() if rules.failed_at is not None}
    return {"fast_answers": report} | ({FAILED_AT: failed} if failed else {})


def _why_silent(state: LearnerState, task: str, alone: WordsAlone) -> str:
    if state.settings.fast_loss is None:
        return "PAWL_FAST_ANSWERS_LOSS is off"
    obstacle = state.words.get(task, WordsRules()).obstacle(0) if alone.loss is None else None
    return obstacle or "on no share of the evaluation set are words alone as good as both heads"


def repeated_metrics(report: GateReport) -> Json:
    """The numbers of a gate report that a version's metrics repeat."""
    return {
        "accuracy": {task: each.overall.candidate for task, each in report.tasks.items() if each.overall.items},
        "prequential": {task: each.prequential for task, each in report.tasks.items() if each.prequential is not None},
        "ece": {task: each.ece_candidate for task, each in report.tasks.items() if each.ece_candidate is not None},
    }
