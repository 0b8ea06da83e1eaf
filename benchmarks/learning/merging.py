"""Results of several runs of one program in one file: what takes long is measured a row, or a seed, at a time."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.harness import Json, environment, notes
from benchmarks.learning.program import Given
from benchmarks.learning.rows import ROWS, Row

_MUST_AGREE = ("quick", "limit")
_SUFFIX = re.compile(r"_(frozen|ceiling)$")
"""What a protocol makes of a row besides the row itself."""


def earlier(given: Given, same: Json) -> Json:
    """What the results' folder holds of this protocol, if it was measured on the same data in the same environment.

    `same` are those of the results that tell; empty where there is nothing to go with what is measured now.
    """
    path = given.results / f"learning_{given.name}.json"
    if not path.is_file():
        return {}
    document: Json = json.loads(path.read_text(encoding="utf-8"))
    settings, results = document["settings"], document["results"]
    then: Json = {key: settings[key] for key in _MUST_AGREE} | {key: results.get(key) for key in same}
    now: Json = {key: given.settings[key] for key in _MUST_AGREE} | same
    then["environment"], now["environment"] = document["environment"], environment()
    other = [key for key in now if json.loads(json.dumps(now[key])) != then[key]]
    if other:
        notes.print(f"{path} is replaced, not added to: another {', '.join(other)}", markup=False, soft_wrap=True)
        return {}
    return dict(results)


def merged(given: Given, found: Mapping[str, Json], kept: Mapping[str, Json], known: Sequence[Row] = ROWS) -> Json:
    """Rows (each with `runs`, each of these with a `seed`) with those that were measured before; in the table's order.

    A run that is measured again takes the place of the older one. Each says which commit it is of: a row may be of
    several. `known` are the protocol's rows in their order.
    """
    order = [row.name for row in known]
    rows: Json = {}
    for name in sorted({**kept, **found}, key=lambda name: (order.index(_SUFFIX.sub("", name)), name)):
        runs = {run["seed"]: run for run in kept.get(name, {}).get("runs", [])}
        runs |= {run["seed"]: {"commit": given.commit} | run for run in found.get(name, {}).get("runs", [])}
        rows[name] = {**kept.get(name, {}), **found.get(name, {}), "runs": [runs[seed] for seed in sorted(runs)]}
    return rows


def merged_in_groups(
    given: Given, same: Json, key: str, found: Mapping[str, Mapping[str, Json]], known: Sequence[Row] = ROWS
) -> Json:
    """The same where results[key] has several tables, by name: `found` are the rows of each."""
    kept = earlier(given, same).get(key, {})
    return {name: merged(given, found.get(name, {}), kept.get(name, {}), known) for name in {**kept, **found}}


def origin(rows: Iterable[Json]) -> str:
    """Which rows were measured with which seeds on which commit, as a sentence."""
    found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        by_commit: defaultdict[str, list[int]] = defaultdict(list)
        for run in row["runs"]:
            by_commit[run["commit"]].append(run["seed"])
        for commit, seeds in by_commit.items():
            key = commit[:7] + ("-dirty" if commit.endswith("-dirty") else ""), _numbers(seeds)
            if row["title"] not in found[key]:
                found[key].append(row["title"])
    if len(found) == 1:
        [(one, which)] = found
        return f"{which}, commit {one}."
    return (
        "; ".join(f"{', '.join(titles)}: {seeds}, commit {commit}" for (commit, seeds), titles in found.items()) + "."
    )


def _numbers(seeds: list[int]) -> str:
    whole = seeds == [*range(seeds[0], seeds[-1] + 1)] and len(seeds) > 1
    return f"seeds {seeds[0]}-{seeds[-1]}" if whole else f"seed {', '.join(map(str, seeds))}"
