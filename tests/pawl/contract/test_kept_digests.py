"""Which texts words never answer alone: SQL and the learner say the same of every sample."""

from __future__ import annotations

from pawl.domain.samples import Origin, digest_text
from tests.pawl.contract.backends import OpenStores
from worker.state.words_rules import is_kept


async def test_golden_pinned_and_corrected_texts_are_kept_and_no_others(stores: OpenStores) -> None:
    expected = [await stores.accept("golden", "a", golden=True), await stores.accept("said", "a")]
    expected += [await stores.accept("pinned", "a", pinned=True, origin=Origin.IMPORT)]
    expected += [await stores.accept("restored", "a", origin=Origin.RESTORED)]
    others = [
        await stores.accept("plain", "a", origin=Origin.IMPORT),
        await stores.accept("elsewhere", "a", task="tone", create_task=True),
    ]
    await stores.learn(*expected[1:], *others)
    await stores.accept("waits", "a")
    digests = set(await stores.samples.kept_digests("default", 10))
    assert digests == {digest_text(text) for text in ("golden", "said", "pinned", "restored")}
    of_task = await stores.samples.get_many([sample.id for sample in (*expected, others[0])])
    assert {sample.text_digest for sample in of_task if is_kept(sample)} == digests
    assert len(await stores.samples.kept_digests("default", 2)) == 2
