"""What enters a task's heads and what leaves them. Values only."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from pawl.domain.versions import HeadName
from worker.model.ridge import RowChange

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class LabelledFeatures:
    """A sample as the heads of a task see it.

    Args:
        sample_id, label, weight: as its client sent it; the weight includes the sample's emphasis.
        features: phi (p,) for each head.
        order: digest of its text; decides who stays in a full evaluation set.
        heldout: no encoder is ever trained on it.
        golden: it evaluates and is never learned.
        pinned: no candidate may lose its right answer.
        eligible: it may evaluate: no encoder was trained on it, and it does not read as another with another label.
    """

    sample_id: str
    label: str
    weight: float
    features: Mapping[HeadName, Tensor]
    order: str
    heldout: bool = False
    golden: bool = False
    pinned: bool = False
    eligible: bool = True

    def on_its_own(self) -> LabelledFeatures:
        """The same, with features that keep no others in memory: those of a page are rows of one tensor."""
        return replace(self, features={head: phi.clone() for head, phi in self.features.items()})


def stacked(examples: Sequence[LabelledFeatures], heads: Collection[HeadName]) -> dict[HeadName, Tensor]:
    """Features of samples, of which there is at least one, as rows (n, p) for each of these heads."""
    return {head: torch.stack([example.features[head] for example in examples]) for head in heads}


@dataclass(frozen=True, slots=True)
class ModelChange:
    """A change of the samples in a task's heads.

    Args:
        adds: what enters.
        removes: what leaves.
        members: learned samples of each label in `TaskModel.reweighted_labels`: their weight changes with the class.
        corrections: ids of those of `adds` that may get a correction weight.
    """

    adds: Sequence[LabelledFeatures] = ()
    removes: Sequence[LabelledFeatures] = ()
    members: Mapping[str, Sequence[LabelledFeatures]] = field(default_factory=dict)
    corrections: frozenset[str] = frozenset()

    @property
    def leaving(self) -> frozenset[str]:
        """Ids of what leaves."""
        return frozenset(example.sample_id for example in self.removes)

    def rows(self, head: HeadName, index: Mapping[str, int], old: Sequence[float], new: Sequence[float]) -> RowChange:
        """For a head the rows that enter, leave, or change their weight because their class has grown or shrunk.

        `index` are the columns of the labels, `old` and `new` the weights of a sample of each column.
        """
        # `adds` come first: their leverages are read by position (`TaskModel._rank_k`).
        signed = [(e, e.weight * new[index[e.label]]) for e in self.adds]
        signed += [(e, -e.weight * old[index[e.label]]) for e in self.removes]
        leaving = self.leaving
        for label, members in self.members.items():
            step = new[index[label]] - old[index[label]]
            # No row of weight 0, as the step divides by weights (D^-1); what leaves goes with all of its old weight.
            signed += [(e, e.weight * step) for e in members if step and e.sample_id not in leaving]
        return RowChange(
            torch.stack([example.features[head] for example, _ in signed]),
            torch.tensor([index[example.label] for example, _ in signed], dtype=torch.int64),
            torch.tensor([weight for _, weight in signed], dtype=torch.float64),
        )

    def emphasised(self, factors: Mapping[str, float]) -> ModelChange:
        """The change with the weights of what enters multiplied by `factors`, by sample id."""
        return replace(self, adds=[replace(e, weight=e.weight * factors.get(e.sample_id, 1.0)) for e in self.adds])
