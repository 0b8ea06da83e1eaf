"""The screen: which of the arriving labels are kept out of the heads until somebody has looked at them.

A label is *opposed* when the live head, before learning it, gives another answer with a margin, most of the nearest
learned neighbours have that answer, and none has the label. One opposed label is nothing: honest people contradict the
model, that is what feedback is for. What is held is what honest mistakes do not explain:

flow        more opposed labels from one label to another than the panel's own confusion of the two explains: with n
            such in the window, n >= floor and P(Binomial >= n) < alpha / pairs; first each source for itself, then what
            is left of all together.
duplicates  near-identical opposed texts with one label.
source      the share of a source's labels that are at least plausible (among the head's best, or a neighbour's label)
            has a Beta posterior with exponential forgetting; held while its 95 % bound is below a limit.

Whatever is held is judged with the batch it came in as a whole, so no order of a batch lets a burst through. What a
held flow, source or duplicate had brought into the head within the window is named as well (`pulls`). Pure: no I/O, no
clock; all that it remembers is a bounded window that can be made again from the store.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np
from scipy.special import betaincinv

from pawl.domain.quarantine import Doubt, Hold, QuarantineKind
from pawl.ports import Floats
from pawl.settings import Settings
from worker.model.exact_tests import binomial_tail
from worker.screening.observations import ArrivingLabel, Confusion, Confusions, NoiseVerdict, RememberedLabel

_BOUND = 0.95
_PLAUSIBLE_SHARE, _PLAUSIBLE_MOST = 4, 5
"""A label is plausible among the best quarter of all labels, at most the best five."""


class NoiseDetector:
    """The window of one task. `judge` is to be called with every batch before it is learned."""

    def __init__(self, settings: Settings, seen: Iterable[RememberedLabel] = ()) -> None:
        self._settings = settings
        self._window: dict[str, RememberedLabel] = {one.sample_id: one for one in seen}
        self._trim()

    def __len__(self) -> int:
        return len(self._window)

    @property
    def suspects(self) -> set[str]:
        """Opposed samples of the window: no witnesses, neither as neighbours nor on the panel."""
        return {one.sample_id for one in self._window.values() if one.is_opposed}

    def clear(self, sample_ids: Collection[str]) -> None:
        """Reviewers found these right: they speak for their source, and for no flow."""
        for sample_id in sample_ids:
            if sample_id in self._window:
                one = self._window[sample_id]
                self._window[sample_id] = RememberedLabel(one.sample_id, one.source, one.label, None)

    def judge(
        self, arrivals: Sequence[ArrivingLabel], counts: Mapping[str, int], confusions: Confusions
    ) -> NoiseVerdict:
        """Takes a batch into the window and says what of it, and of what came before it, is to be held.

        `counts` are the learned samples of each label. A batch that comes again is counted once.
        """
        young = self._young(counts)
        verdict = NoiseVerdict()
        for one in arrivals:
            doubt = self._doubt(one, young, len(counts))
            if doubt is not None:
                verdict.doubts[one.sample_id] = doubt
            self._window.pop(one.sample_id, None)
            z = one.z if doubt is not None and doubt.opposed else None
            self._window[one.sample_id] = RememberedLabel(one.sample_id, one.source, one.label, doubt, z)
        found: dict[str, Hold] = {}
        fresh = {one.sample_id for one in arrivals}
        for search in (self._sources, self._duplicates):
            for sample_id, hold in search(fresh).items():
                found.setdefault(sample_id, hold)
        for sample_id, hold in self._flows(fresh, len(counts), confusions).items():
            found.setdefault(sample_id, hold)
        for sample_id, hold in found.items():
            (verdict.holds if sample_id in fresh else verdict.pulls)[sample_id] = hold
        self._trim()
        return verdict

    def _trim(self) -> None:
        for sample_id in list(self._window)[: max(0, len(self._window) - self._settings.quarantine_window)]:
            del self._window[sample_id]

    def _young(self, counts: Mapping[str, int]) -> Callable[[str], bool]:
        """Labels too young to oppose or to be opposed: a new class takes from old ones by right.

        What is opposed does not count against a label's age: most of it is held and in no count, and a label for which
        a burst was held would be young again, open to the rest of the burst.
        """
        limit = self._settings.quarantine_established
        return lambda label: counts.get(label, 0) < limit

    def _doubt(self, one: ArrivingLabel, young: Callable[[str], bool], labels: int) -> Doubt | None:
        if one.answer == one.label and one.gold in (None, one.label):
            return None
        if young(one.label) or young(one.answer):
            return None
        opposed = (
            one.answer != one.label
            and one.margin >= self._settings.quarantine_margin
            and one.label not in one.neighbours
            and 2 * one.neighbours.count(one.answer) > self._settings.quarantine_neighbours
        )
        best = min(_PLAUSIBLE_MOST, labels // _PLAUSIBLE_SHARE)
        plausible = best < 2 or one.rank < best or one.label in one.neighbours
        if one.gold is not None:
            plausible = one.gold == one.label
        return Doubt(one.answer, opposed, plausible)

    def _sources(self, fresh: Collection[str]) -> dict[str, Hold]:
        """Everything new from a source without trust, and what was implausible of it before."""
        held: dict[str, Hold] = {}
        by_source: dict[str, list[RememberedLabel]] = defaultdict(list)
        for one in self._window.values():
            if one.source is not None:  # who does not give a name has none to lose
                by_source[one.source].append(one)
        for source, theirs in by_source.items():
            if not any(one.sample_id in fresh for one in theirs):
                continue
            good, bad = self._record(theirs)
            if good + bad < self._settings.quarantine_source_evidence:
                continue
            bound = float(betaincinv(good + 1, bad + 1, _BOUND))
            if bound < self._settings.quarantine_source_trust:
                wrong = sum(not one.is_plausible for one in theirs)
                reason = (
                    f"{wrong} of the last {len(theirs)} labels from `{source}` are ones that neither the model nor "
                    f"similar texts suggest; at most {bound:.0%} of its labels are plausible"
                )
                hold = Hold(QuarantineKind.SOURCE, reason)
                held |= {o.sample_id: hold for o in theirs if o.sample_id in fresh or not o.is_plausible}
        return held

    def _record(self, theirs: Sequence[RememberedLabel]) -> tuple[float, float]:
        good = bad = 0.0
        keep = 1.0 - 1.0 / self._settings.quarantine_source_memory
        for one in theirs:
            good, bad = keep * good + one.is_plausible, keep * bad + (not one.is_plausible)
        return good, bad

    def _duplicates(self, fresh: Collection[str]) -> dict[str, Hold]:
        held: dict[str, Hold] = {}
        by_label: dict[str, list[tuple[str, Floats]]] = defaultdict(list)
        for one in self._window.values():
            if one.is_opposed and one.z is not None:
                by_label[one.label].append((one.sample_id, one.z))
        for label, group in by_label.items():
            ids = [sample_id for sample_id, _ in group]
            if len(ids) < self._settings.quarantine_duplicates or not any(one in fresh for one in ids):
                continue
            z = np.stack([vector for _, vector in group])
            alike = z @ z.T >= self._settings.quarantine_similarity
            for row in np.flatnonzero(alike.sum(1) >= self._settings.quarantine_duplicates):
                reason = (
                    f"{alike[row].sum()} nearly identical texts came with the label {label}, "
                    f"which the model and similar texts contradict"
                )
                held[ids[row]] = Hold(QuarantineKind.DUPLICATES, reason)
        return held

    def _flows(self, fresh: Collection[str], labels: int, confusions: Confusions) -> dict[str, Hold]:
        """Flows with something new in them. Convicted by its opposed labels, a flow is held with the close calls, and
        with what its source, if named, gave this label afterwards: a head that had learned the first of them agrees.
        """
        held: dict[str, Hold] = {}
        flows: dict[tuple[str, str], list[RememberedLabel]] = defaultdict(list)
        for one in self._window.values():
            if one.doubt is not None and one.doubt.answer != one.label:
                flows[one.doubt.answer, one.label].append(one)
        sources = {one.source for one in self._window.values()}
        tests = max(labels * (labels - 1), 1) * (len(sources) + 1)
        for (answer, label), flow in flows.items():
            if sum(one.is_opposed for one in flow) < self._settings.quarantine_flow_floor:
                continue
            if not any(one.sample_id in fresh for one in flow):
                continue
            known = confusions(answer, label)
            rest: list[RememberedLabel] = []
            for source in {one.source: None for one in flow}:
                theirs = [one for one in flow if one.source == source]
                company = [one for one in self._window.values() if one.source == source]
                if self._is_unexplained(theirs, company, known, tests):
                    hold = Hold(QuarantineKind.FLOW, _flow_sentence(theirs, company, _named(source)))
                    later = company[company.index(theirs[0]) :] if source else theirs
                    held |= {one.sample_id: hold for one in later if one.label == label}
                else:
                    rest += theirs
            company = [one for one in self._window.values() if one.sample_id not in held]
            if self._is_unexplained(rest, company, known, tests):
                hold = Hold(QuarantineKind.FLOW, _flow_sentence(rest, company, "all sources"))
                held |= {one.sample_id: hold for one in rest}
        return held

    def _is_unexplained(
        self, flow: Sequence[RememberedLabel], company: Sequence[RememberedLabel], known: Confusion, tests: int
    ) -> bool:
        """Whether so many opposed labels are too many, given the other labels of the same source (or of all)."""
        opposed = sum(one.is_opposed for one in flow)
        if opposed < self._settings.quarantine_flow_floor:
            return False
        if 0 < self._settings.quarantine_flow_cap <= opposed:
            return True
        same = [one for one in company if one.label == flow[0].label]
        # Twice: where all labels come back, by the share of opposed ones among them; where mistakes alone are
        # reported, by their share among mistakes. The likelier counts, for nobody knows which it is. A label without
        # errors on the panel says nothing of the latter, so it is drawn to that of all labels.
        of_all = (known.opposed + 0.5) / (known.items + 1)
        of_mistakes = (known.opposed + 2 * known.usual) / (known.errors + 2)
        mistakes = sum(one.doubt is not None for one in same)
        chance = max(binomial_tail(opposed, len(same), of_all), binomial_tail(opposed, mistakes, of_mistakes))
        return chance < self._settings.quarantine_alpha / tests


def _named(source: str | None) -> str:
    return "unnamed sources" if source is None else f"`{source}`"


def _flow_sentence(flow: Sequence[RememberedLabel], company: Sequence[RememberedLabel], whose: str) -> str:
    doubt = flow[0].doubt
    answer = doubt.answer if doubt is not None else "?"
    return (
        f"{len(flow)} of the last {len(company)} labels from {whose} turn {answer} into {flow[0].label}, against the "
        f"model and, in {sum(one.is_opposed for one in flow)} cases, most similar texts; its own confusion of the two "
        f"does not explain so many"
    )
