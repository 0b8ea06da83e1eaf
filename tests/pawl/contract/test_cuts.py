"""The contract of what an encoder read of long texts, on every backend."""

from __future__ import annotations

import numpy as np

from tests.pawl.contract.backends import OpenStores

Z = np.ones(2, dtype=np.float32)


async def test_samples_of_which_the_same_was_read(stores: OpenStores) -> None:
    one, two, three, other = [
        await stores.accept(text, label, task=task)
        for text, label, task in (("a", "x", "t"), ("b", "y", "t"), ("c", "x", "t"), ("d", "y", "u"))
    ]
    everyone = {each.id: Z for each in (one, two, three, other)}
    cuts = {one.id: "c1", two.id: "c1", three.id: "c2", other.id: "c1"}
    await stores.samples.put_embeddings("e", everyone, cuts)
    found = await stores.samples.cut_alike("e", "t", ["c1", "c3"])
    assert {cut: [sample.id for sample in each] for cut, each in found.items()} == {"c1": [one.id, two.id]}
    assert await stores.samples.cut_alike("other", "t", ["c1"]) == {}
    assert await stores.samples.cut_conflicts("e") == set()  # none is learned
    await stores.learn(one, two, three, other)
    assert await stores.samples.cut_conflicts("e") == {one.id, two.id}

    await stores.samples.put_embeddings("new", dict.fromkeys((one.id, two.id), Z))
    assert await stores.samples.cut_conflicts("new") == set()
    await stores.samples.copy_cuts("e", "new")
    assert await stores.samples.cut_conflicts("new") == {one.id, two.id}
    await stores.samples.put_embeddings("e", {one.id: Z})
    assert await stores.samples.cut_conflicts("e") == set()  # it is replaced with the embedding
