"""Whether queued samples make a first version, and which. All are looked at, whatever order they came in."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from pawl.db.engine import reading
from pawl.db.sample_rows import select_samples
from pawl.db.tables import QUEUED
from pawl.db.tables import samples as table
from pawl.db.task_facts import labels_in
from pawl.domain.labels import FEWEST_LABELS
from pawl.domain.samples import Sample, SampleState


class FirstVersionTable:
    """The part of `SampleStore` that the first version is made from."""

    _engine: AsyncEngine

    async def makes_first_version(self, least: int) -> bool:
        """See `SampleStore.makes_first_version`."""
        async with reading(self._engine) as connection:
            waiting = await connection.scalar(select(func.count()).select_from(table).where(QUEUED))
            if (waiting or 0) < least:
                return False
            # A look at the index first: it is asked again and again while one label alone waits.
            tasks = (await connection.scalars(select(table.c.task).where(QUEUED).distinct())).all()
            steps = [labels_in(task, SampleState.QUEUED.value).limit(FEWEST_LABELS) for task in tasks]
            # A list: a generator with `await` in it is an asynchronous one, which `any` cannot read.
            if not any([len((await connection.execute(step)).all()) == FEWEST_LABELS for step in steps]):
                return False
            query = select(table.c.task, func.count()).where(QUEUED, _stands()).group_by(table.c.task, table.c.label)
            counts = (await connection.execute(query)).all()
        labels = Counter(task for task, _ in counts)
        return sum(count for _, count in counts) >= least and max(labels.values(), default=0) >= FEWEST_LABELS

    async def first_samples(self, limit: int) -> list[Sample]:
        """See `SampleStore.first_samples`."""
        # In turn of the labels: of a file sorted by label, the first `limit` rows may have one label alone.
        place = func.row_number().over(partition_by=(table.c.task, table.c.label), order_by=table.c.seq)
        standing = select(table.c.seq, place.label("place")).where(QUEUED, _stands()).subquery()
        chosen = select(standing.c.seq).order_by(standing.c.place, standing.c.seq).limit(limit)
        async with reading(self._engine) as connection:
            return await select_samples(connection, table.c.seq.in_(chosen))


def _stands() -> ColumnElement[bool]:
    """The condition that no newer label for the same text is queued."""
    newer = table.alias("newer")
    same = (newer.c.text_digest == table.c.text_digest, newer.c.task == table.c.task)
    return ~exists().where(*same, newer.c.state == SampleState.QUEUED.value, newer.c.seq > table.c.seq)
