"""What of a step goes into a candidate's folder and row."""

from __future__ import annotations

from collections.abc import Mapping

from pawl.domain.gate_reports import GateReport
from pawl.json_values import Json
from worker.release.publisher import Draft
from worker.state.chosen import chosen_metrics
from worker.state.learner_state import LearnerState, TaskNovelty
from worker.updates.step import Step


def draft_of(state: LearnerState, step: Step, novelty: Mapping[str, TaskNovelty]) -> Draft:
    """The candidate that a step makes of the live version."""
    of_task = {task: model.hyperparameters for task, model in state.tasks.items()}
    of_task |= {task: proposal.hyperparameters for task, proposal in step.proposals.items()}
    chosen = chosen_metrics(of_task)
    return Draft(
        kind=step.kind,
        trigger=step.trigger,
        parent=state.version or None,
        encoder_folder=state.encoder_folder,
        encoder_digest=state.encoder.digest,
        heads=step.staying(state.heads(step.proposals, novelty)),
        features=state.features,
        settings=chosen | state.settings.model_dump(include={"young_class_size", "prior_correction"}),
        made_with=state.made_with,
        watermark=max([state.watermark, *(sample.seq for sample in step.adds)]),
        samples_new=len(step.adds),
        metrics=chosen
        | {"encoder_watermark": state.encoder_watermark}
        | ({"label_change": step.label.id} if step.label else {}),
        reason=step.label.reason if step.label else step.reason,
    )


def repeated_metrics(report: GateReport) -> Json:
    """The numbers of a gate report that a version's metrics repeat."""
    return {
        "accuracy": {task: each.overall.candidate for task, each in report.tasks.items() if each.overall.items},
        "prequential": {task: each.prequential for task, each in report.tasks.items() if each.prequential is not None},
        "ece": {task: each.ece_candidate for task, each in report.tasks.items() if each.ece_candidate is not None},
    }
