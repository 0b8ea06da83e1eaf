"""The search: Optuna proposes settings, a trial trains with them. With a validation part, bad ones end early."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import optuna

from pawl.domain.errors import TrainingFailed
from pawl.settings import Settings
from worker.consolidation.training.schedule import Evaluation
from worker.tune.trials import accuracy

_STARTUP_TRIALS = 5  # run to their end before any is given up, and at random before TPE proposes
Value = float | int | str


class TimeUsedUp(Exception):
    """The minutes are over; ends the training that runs."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial as it is shown. `right` says which of the dev samples were; None where it did not come so far."""

    number: int
    values: dict[str, Value]
    state: str
    accuracy: float | None
    seconds: float
    right: tuple[bool, ...] | None = None


@dataclass(slots=True)
class SettingsSearch:
    """Tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011; Akiba et al., Optuna, KDD 2019), median pruning.

    `space` is what is searched, by setting. The first trial has the present settings: what is recommended is then
    never worse than they are, as far as the dev samples can tell.
    """

    space: dict[str, optuna.distributions.BaseDistribution]
    present: Settings
    seed: int
    trials: list[Trial] = field(default_factory=list)
    study: optuna.Study = field(init=False)

    def __post_init__(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=self.seed, n_startup_trials=_STARTUP_TRIALS),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS, n_warmup_steps=1),
        )
        now = {name: getattr(self.present, name) for name in self.space}
        self.study.enqueue_trial({name: _inside(self.space[name], value) for name, value in now.items()})

    def step(self, train: Callable[[Settings, Callable[[Evaluation], None]], list[bool]]) -> Trial:
        """One trial. `train` takes settings and whom to tell of evaluations, and says which of dev are right."""
        asked, begun = self.study.ask(self.space), time.monotonic()
        count = 0

        def evaluated(evaluation: Evaluation) -> None:
            nonlocal count
            asked.report(evaluation.accuracy, count)
            count += 1
            if asked.should_prune():
                raise optuna.TrialPruned

        values, right, state = dict(asked.params), None, "complete"
        try:
            right = train(self.present.model_copy(update=values), evaluated)
            self.study.tell(asked, accuracy(right))
        except optuna.TrialPruned:
            self.study.tell(asked, state=optuna.trial.TrialState.PRUNED)
            state = "given up early"
        except TrainingFailed as error:  # the loss became infinite: a result about these settings, not a failure
            self.study.tell(asked, state=optuna.trial.TrialState.FAIL)
            state = str(error)
        except BaseException:
            # Told too, else the study would hold the trial for running for ever.
            self.study.tell(asked, state=optuna.trial.TrialState.FAIL)
            raise
        reached = None if right is None else accuracy(right)
        kept = None if right is None else tuple(right)
        trial = Trial(asked.number, values, state, reached, time.monotonic() - begun, kept)
        self.trials.append(trial)
        return trial

    @property
    def best(self) -> Trial | None:
        """The trial with the highest accuracy, the earliest of equal ones; None as long as none is complete."""
        complete = [trial for trial in self.trials if trial.accuracy is not None]
        return max(complete, key=lambda trial: (trial.accuracy, -trial.number)) if complete else None

    def importances(self) -> dict[str, float]:
        """How much each setting decides about being among the better half (PED-ANOVA, Watanabe et al., IJCAI 2023)."""
        if sum(trial.accuracy is not None for trial in self.trials) < _STARTUP_TRIALS:
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.5)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that all were equally good: then all importances are equal
            return dict(optuna.importance.get_param_importances(self.study, evaluator=evaluator))


def search_space(*, replayable: bool) -> dict[str, Any]:
    """What is searched; replay and what acts on it only where there is something to replay."""
    real, whole = optuna.distributions.FloatDistribution, optuna.distributions.IntDistribution
    space: dict[str, Any] = {
        "learning_rate": real(1e-5, 3e-4, log=True),
        "epochs": whole(1, 10),
        "weight_decay": real(1e-3, 1e-1, log=True),
        "l2_sp": real(1e-6, 1e-1, log=True),
        "adversarial": optuna.distributions.CategoricalDistribution(("off", "fgm")),
    }
    if replayable:
        space |= {
            "replay_per_class": whole(10, 500, log=True),
            "distillation": real(0.01, 2.0, log=True),
        }
    return space


def _inside(distribution: Any, value: Value) -> Value:
    """The value, or the nearest that the distribution can give: 0 is not on a logarithmic scale."""
    if isinstance(value, str):
        return value
    nearest = float(min(max(value, distribution.low), distribution.high))
    return round(nearest) if isinstance(distribution, optuna.distributions.IntDistribution) else nearest
