"""Label noise: which of the arriving labels are kept out of the heads until a person has reviewed them.

A label is *opposed* when the live head, before learning it, gives another answer with a margin, most of the nearest
learned neighbours have that answer, and none has the label. One opposed label proves nothing: feedback is there to
contradict the model. Labels are held where honest mistakes do not explain them:

flow        more opposed labels from one label to another than the evaluation set's confusion of the two explains: with
            n such in the window, n >= floor and P(Binomial >= n) < alpha / pairs; first each source for itself, then
            what is left of all together.
duplicates  near-identical opposed texts with one label.
source      the share of a source's labels that are at least plausible (among the head's best, or a neighbour's label)
            has a Beta posterior with exponential forgetting; held while its 95 % bound is below a limit.

A batch is judged as a whole, so no order of its samples lets a burst through. What a held flow, source or duplicate
had brought into the head within the window is to leave it (`pulls`). No I/O and no clock: the detector remembers a
bounded window, which can be made again from the store.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

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
        self._window: dict[str, RememberedLabel] = {entry.sample_id: entry for entry in seen}
        self._trim()

    def __len__(self) -> int:
        return len(self._window)

    @property
    def suspects(self) -> set[str]:
        """Opposed samples of the window: they count neither as neighbours nor in the evaluation set."""
        return {entry.sample_id for entry in self._window.values() if entry.is_opposed}

    def clear(self, sample_ids: Collection[str]) -> None:
        """Reviewers found these labels right: they count for their source, and for no flow."""
        for sample_id in sample_ids:
            if sample_id in self._window:
                self._window[sample_id] = replace(self._window[sample_id], doubt=None, z=None)

    def judge(
        self, arrivals: Sequence[ArrivingLabel], counts: Mapping[str, int], confusions: Confusions
    ) -> NoiseVerdict:
        """Takes a batch into the window and says what of it, and of what came before it, is to be held.

        `counts` are the learned samples of each label. A batch that comes again is counted once.
        """
        young = self._young(counts)
        verdict = NoiseVerdict()
        for arriving in arrivals:
            sample_id, doubt = arriving.sample_id, self._doubt(arriving, young, len(counts))
            if doubt is not None:
                verdict.doubts[sample_id] = doubt
            self._window.pop(sample_id, None)  # it goes to the end
            z = arriving.z if doubt is not None and doubt.opposed else None
            self._window[sample_id] = RememberedLabel(sample_id, arriving.source, arriving.label, doubt, z)
        fresh = {arriving.sample_id for arriving in arrivals}
        # Of several reasons the last one of these stands.
        holds = self._flows(fresh, len(counts), confusions) | self._duplicates(fresh) | self._sources(fresh)
        for sample_id, hold in holds.items():
            (verdict.holds if sample_id in fresh else verdict.pulls)[sample_id] = hold
        self._trim()
        return verdict

    def _trim(self) -> None:
        for sample_id in list(self._window)[: max(0, len(self._window) - self._settings.quarantine_window)]:
            del self._window[sample_id]

    def _young(self, counts: Mapping[str, int]) -> Callable[[str], bool]:
        """Labels with too few samples to oppose or to be opposed: a new class may take texts from old ones.

        `counts` are not reduced by opposed samples: a label for which a burst was held would be young again, and open
        to the rest of the burst.
        """
        limit = self._settings.quarantine_established
        return lambda label: counts.get(label, 0) < limit

    def _doubt(self, arriving: ArrivingLabel, young: Callable[[str], bool], labels: int) -> Doubt | None:
        if arriving.answer == arriving.label and arriving.gold in (None, arriving.label):
            return None
        if young(arriving.label) or young(arriving.answer):
            return None
        opposed = (
            arriving.answer != arriving.label
            and arriving.margin >= self._settings.quarantine_margin
            and arriving.label not in arriving.neighbours
            and 2 * arriving.neighbours.count(arriving.answer) > self._settings.quarantine_neighbours
        )
        best = min(_PLAUSIBLE_MOST, labels // _PLAUSIBLE_SHARE)
        # With less than eight labels the best quarter is the answer itself at most: then every label is plausible.
        plausible = best < 2 or arriving.rank < best or arriving.label in arriving.neighbours
        if arriving.gold is not None:
            plausible = arriving.gold == arriving.label
        return Doubt(arriving.answer, opposed, plausible)

    def _sources(self, fresh: Collection[str]) -> dict[str, Hold]:
        """Everything new from a source without trust, and what was implausible of it before."""
        held: dict[str, Hold] = {}
        by_source: dict[str, list[RememberedLabel]] = defaultdict(list)
        for entry in self._window.values():
            if entry.source is not None:
                by_source[entry.source].append(entry)
        for source, theirs in by_source.items():
            if not any(entry.sample_id in fresh for entry in theirs):
                continue
            good, bad = self._record(theirs)
            if good + bad < self._settings.quarantine_source_evidence:
                continue
            # 95 % quantile of the posterior Beta(good + 1, bad + 1), from a uniform prior.
            bound = float(betaincinv(good + 1, bad + 1, _BOUND))
            if bound < self._settings.quarantine_source_trust:
                wrong = sum(not entry.is_plausible for entry in theirs)
                reason = (
                    f"{wrong} of the last {len(theirs)} labels from `{source}` are ones that neither the model nor "
                    f"similar texts suggest; at most {bound:.0%} of its labels are plausible"
                )
                hold = Hold(QuarantineKind.SOURCE, reason)
                doubtful = [entry for entry in theirs if entry.sample_id in fresh or not entry.is_plausible]
                held |= {entry.sample_id: hold for entry in doubtful}
        return held

    def _record(self, theirs: Sequence[RememberedLabel]) -> tuple[float, float]:
        good = bad = 0.0
        keep = 1.0 - 1.0 / self._settings.quarantine_source_memory
        for entry in theirs:
            good, bad = keep * good + entry.is_plausible, keep * bad + (not entry.is_plausible)
        return good, bad

    def _duplicates(self, fresh: Collection[str]) -> dict[str, Hold]:
        held: dict[str, Hold] = {}
        by_label: dict[str, list[tuple[str, Floats]]] = defaultdict(list)
        for entry in self._window.values():
            if entry.is_opposed and entry.z is not None:
                by_label[entry.label].append((entry.sample_id, entry.z))
        for label, group in by_label.items():
            ids = [sample_id for sample_id, _ in group]
            if len(ids) < self._settings.quarantine_duplicates or not any(sample_id in fresh for sample_id in ids):
                continue
            z = np.stack([vector for _, vector in group])
            # (n, n) cosines of unit vectors, n at most the window. Each row counts itself, so the setting is the size
            # of the group.
            alike = z @ z.T >= self._settings.quarantine_similarity
            for row in np.flatnonzero(alike.sum(1) >= self._settings.quarantine_duplicates):
                reason = (
                    f"{alike[row].sum()} nearly identical texts came with the label {label}, "
                    f"which the model and similar texts contradict"
                )
                held[ids[row]] = Hold(QuarantineKind.DUPLICATES, reason)
        return held

    def _flows(self, fresh: Collection[str], labels: int, confusions: Confusions) -> dict[str, Hold]:
        """Flows with something new in them that have too many opposed labels.

        Held are all labels of such a flow, close calls too, and those that its source, if named, gave this label
        afterwards: a head that had learned the first of them does not oppose the later ones.
        """
        held: dict[str, Hold] = {}
        flows: dict[tuple[str, str], list[RememberedLabel]] = defaultdict(list)
        for entry in self._window.values():
            if entry.doubt is not None and entry.doubt.answer != entry.label:
                flows[entry.doubt.answer, entry.label].append(entry)
        sources = {entry.source for entry in self._window.values()}
        # For Bonferroni's correction: each ordered pair of labels is tested for each source, and once for all together.
        tests = max(labels * (labels - 1), 1) * (len(sources) + 1)
        for (answer, label), flow in flows.items():
            if sum(entry.is_opposed for entry in flow) < self._settings.quarantine_flow_floor:
                continue
            if not any(entry.sample_id in fresh for entry in flow):
                continue
            known = confusions(answer, label)
            rest: list[RememberedLabel] = []
            for source in {entry.source: None for entry in flow}:
                theirs = [entry for entry in flow if entry.source == source]
                company = [entry for entry in self._window.values() if entry.source == source]
                if self._is_unexplained(theirs, company, known, tests):
                    hold = Hold(QuarantineKind.FLOW, _flow_sentence(theirs, company, _named(source)))
                    later = company[company.index(theirs[0]) :] if source else theirs
                    held |= {entry.sample_id: hold for entry in later if entry.label == label}
                else:
                    rest += theirs
            # Without what is held: it would count among the labels of which a share may be opposed, and so explain the
            # rest.
            company = [entry for entry in self._window.values() if entry.sample_id not in held]
            if self._is_unexplained(rest, company, known, tests):
                hold = Hold(QuarantineKind.FLOW, _flow_sentence(rest, company, "all sources"))
                held |= {entry.sample_id: hold for entry in rest}
        return held

    def _is_unexplained(
        self, flow: Sequence[RememberedLabel], company: Sequence[RememberedLabel], known: Confusion, tests: int
    ) -> bool:
        """Whether so many opposed labels are too many, given the other labels of the same source (or of all)."""
        opposed = sum(entry.is_opposed for entry in flow)
        if opposed < self._settings.quarantine_flow_floor:
            return False
        if 0 < self._settings.quarantine_flow_cap <= opposed:
            return True
        same = [entry for entry in company if entry.label == flow[0].label]
        # Twice: where all labels come back, by the share of opposed ones among them; where mistakes alone are
        # reported, by their share among mistakes. The likelier counts, for nobody knows which it is. A label without
        # errors in the evaluation set says nothing of the latter, so it is drawn to that of all labels.
        of_all = (known.opposed + 0.5) / (known.items + 1)
        of_mistakes = (known.opposed + 2 * known.usual) / (known.errors + 2)
        mistakes = sum(entry.doubt is not None for entry in same)
        chance = max(binomial_tail(opposed, len(same), of_all), binomial_tail(opposed, mistakes, of_mistakes))
        return chance < self._settings.quarantine_alpha / tests


def _named(source: str | None) -> str:
    return "unnamed sources" if source is None else f"`{source}`"


def _flow_sentence(flow: Sequence[RememberedLabel], company: Sequence[RememberedLabel], whose: str) -> str:
    doubt = flow[0].doubt
    answer = doubt.answer if doubt is not None else "?"
    opposed = sum(entry.is_opposed for entry in flow)
    return (
        f"{len(flow)} of the last {len(company)} labels from {whose} turn {answer} into {flow[0].label}, against the "
        f"model and, in {opposed} cases, most similar texts; its own confusion of the two does not explain so many"
    )
