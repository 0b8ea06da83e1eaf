"""Features, heads and novelty: their formulas, and what their files refuse."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from pawl.classifier.features import RandomFeatures
from pawl.classifier.head import LinearHead
from pawl.classifier.novelty import Novelty
from pawl.domain.errors import ArtefactCorrupt
from pawl.ports import Floats


def _unit(n: int, d: int, seed: int = 0) -> Floats:
    z = np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    return z


@pytest.mark.parametrize("count", [0, 1, 50])
def test_features_are_the_formula(count: int) -> None:
    features, z = RandomFeatures.create(8, count, seed=3), _unit(5, 8)
    hidden = np.maximum(z.astype(float) @ features.projection.astype(float).T, 0) * np.sqrt(2 / max(count, 1))
    phi = features.expand(z)
    np.testing.assert_allclose(phi, np.hstack([z, hidden, np.ones((5, 1))]), atol=1e-6)
    assert phi.dtype == np.float32
    assert phi.shape == (5, features.width)


def test_only_the_first_part_of_a_longer_embedding_is_widened() -> None:
    z = _unit(5, 8)
    features, short = RandomFeatures.create(3, 20, seed=3, dimension=8), RandomFeatures.create(3, 20, seed=3)
    np.testing.assert_array_equal(features.expand(z)[:, 8:], short.expand(z[:, :3])[:, 3:])
    np.testing.assert_array_equal(features.expand(z)[:, :8], z)
    with pytest.raises(ValueError, match="does not fit"):
        RandomFeatures.create(8, 20, seed=3, dimension=3)


def test_the_relu_part_keeps_unit_length_on_average() -> None:
    phi = RandomFeatures.create(16, 4096, seed=0).expand(_unit(20, 16))
    np.testing.assert_allclose(np.linalg.norm(phi[:, 16:-1], axis=1), 1.0, atol=0.1)


def test_equal_seeds_draw_equal_features() -> None:
    same = RandomFeatures.create(8, 5, 1).to_bytes()
    assert same == RandomFeatures.create(8, 5, 1).to_bytes()
    assert same != RandomFeatures.create(8, 5, 2).to_bytes()


def test_a_row_of_features_does_not_depend_on_the_others() -> None:
    features, z = RandomFeatures.create(32, 128, 0), _unit(40, 32)
    alone = np.vstack([features.expand(row[None]) for row in z])
    np.testing.assert_allclose(features.expand(z), alone, atol=1e-6)


def test_head_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    weights, offsets = rng.standard_normal((9, 3)).astype(np.float32), np.array([0.1, -0.2, 0.0], np.float32)
    phi = rng.standard_normal((4, 9)).astype(np.float32)
    head = LinearHead(("a", "b", "c"), weights, offsets, 0.5)
    scores = phi.astype(float) @ weights.astype(float) + offsets
    np.testing.assert_allclose(head.scores(phi), scores, atol=1e-5)
    odds = np.exp(scores / 0.5)
    np.testing.assert_allclose(head.probabilities(phi), odds / odds.sum(1, keepdims=True), atol=1e-5)
    assert head.probabilities(phi).dtype == np.float32


Z = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [9, 9, 9, 9]], dtype=np.float32)
SCORES = np.array([[0.5, 0.1], [-0.2, 0.3], [0.0, -1.0], [1.0, 0.9]], dtype=np.float32)


def test_novelty_is_the_formula_and_its_rank_among_the_quantiles() -> None:
    novelty = Novelty(2 * np.eye(4, dtype=np.float32), np.linspace(-4, 4, 101, dtype=np.float32), 0.3)
    h = np.array([4.0, 8.0, 1e-12, 4 * 4 * 81])
    np.testing.assert_allclose(novelty.leverage(Z), [4, 8, 0, 4 * 4 * 81])
    expected = 0.3 * np.log(h) - [0.5, 0.3, 0.0, 1.0]
    np.testing.assert_allclose(novelty.strangeness(Z, SCORES), expected, rtol=1e-5)
    np.testing.assert_allclose(novelty.rank(Z, SCORES), np.clip((expected + 4) / 8, 0, 1), atol=1e-6)
    constant = Novelty(np.eye(4, dtype=np.float32), np.zeros(101, np.float32), 0.3)
    assert ((constant.rank(Z, SCORES) >= 0) & (constant.rank(Z, SCORES) <= 1)).all()


def test_a_text_that_fits_no_label_or_that_nothing_known_points_to_is_stranger() -> None:
    novelty = Novelty(np.eye(4, dtype=np.float32), np.linspace(-2, 2, 101, dtype=np.float32), 0.3)
    ranks = [novelty.rank(Z[:1], np.full((1, 3), best, np.float32)).item() for best in (1.0, 0.6, 0.2)]
    assert ranks == sorted(set(ranks))
    ranks = [novelty.rank(length * Z[:1], SCORES[:1]).item() for length in (0.3, 1.0, 2.0)]
    assert ranks == sorted(set(ranks))


@pytest.mark.parametrize(
    "build",
    [
        lambda: LinearHead((), np.zeros((3, 0), np.float32), np.zeros(0, np.float32), 1.0),
        lambda: LinearHead(("a", "a"), np.zeros((3, 2), np.float32), np.zeros(2, np.float32), 1.0),
        lambda: LinearHead(("a", "b"), np.zeros((3, 3), np.float32), np.zeros(2, np.float32), 1.0),
        lambda: LinearHead(("a", "b"), np.zeros((3, 2), np.float32), np.zeros(3, np.float32), 1.0),
        lambda: LinearHead(("a", "b"), np.zeros((3, 2), np.float32), np.zeros(2, np.float32), 0.0),
        lambda: LinearHead(("a", "b"), np.zeros((3, 2), np.float32), np.zeros(2, np.float32), float("nan")),
        lambda: Novelty(np.zeros((3, 3), np.float32), np.zeros(100, np.float32), 0.3),
        lambda: Novelty(np.zeros((3, 3), np.float32), -np.arange(101, dtype=np.float32), 0.3),
        lambda: Novelty(np.zeros((3, 3), np.float32), np.zeros(101, np.float32), -0.1),
        lambda: Novelty(np.zeros((3, 3), np.float32), np.zeros(101, np.float32), float("nan")),
    ],
)
def test_parts_that_do_not_fit_are_refused(build: Callable[[], object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each case has its own message; that it is refused is the point
        build()


def test_embeddings_that_share_a_large_mean_are_centred_and_others_are_not(tmp_path: Path) -> None:
    features, z = RandomFeatures.create(8, 20, seed=3, dimension=16), np.hstack([_unit(50, 8), _unit(50, 8)])
    assert features.centred_on(z.mean(axis=0), len(z)).centre is None
    assert features.centred_on(z[:1].mean(axis=0), 1).centre is None, "one text is no mean"
    alike = z + np.full(16, 2.0, np.float32)
    for start in (0, 8):
        alike[:, start : start + 8] /= np.linalg.norm(alike[:, start : start + 8], axis=1, keepdims=True)
    centred = features.centred_on(alike.mean(axis=0), len(alike))
    assert centred.centre is not None
    left = (alike - alike.mean(axis=0)).reshape(50, 2, 8)
    left /= np.linalg.norm(left, axis=2, keepdims=True)
    expected = features.expand(left.reshape(50, 16))
    np.testing.assert_allclose(centred.expand(alike), expected, atol=1e-5)
    assert np.isfinite(centred.expand(centred.centre[None])).all()
    path = tmp_path / "features"
    path.write_bytes(centred.to_bytes())
    assert np.array_equal(RandomFeatures.from_file(path, 16).expand(alike), centred.expand(alike))
    assert centred.centred_on(z.mean(axis=0), len(z)).digest == features.digest
    with pytest.raises(ArtefactCorrupt, match="a centre of shape"):
        RandomFeatures.from_file(path, 24)


def test_parts_come_back_from_their_files(tmp_path: Path) -> None:
    features = RandomFeatures.create(4, 6, 0)
    head = LinearHead(("x", "ÿ"), _unit(11, 2), np.array([0.5, -1], np.float32), 0.25)
    novelty = Novelty(_unit(4, 4), np.linspace(-1, 1, 101, dtype=np.float32), 0.3)
    path = tmp_path / "part"
    path.write_bytes(features.to_bytes())
    assert np.array_equal(RandomFeatures.from_file(path).projection, features.projection)
    path.write_bytes(head.to_bytes())
    loaded = LinearHead.from_file(path, head.labels, head.temperature)
    assert loaded.labels == ("x", "ÿ")
    assert np.array_equal(loaded.weights, head.weights)
    assert np.array_equal(loaded.offsets, head.offsets)
    path.write_bytes(novelty.to_bytes())
    assert np.array_equal(Novelty.from_file(path).rank(Z, SCORES), novelty.rank(Z, SCORES))


def test_an_odd_leverage_weight_is_refused(tmp_path: Path) -> None:
    path, good = tmp_path / "part", {"factor": np.eye(3, dtype=np.float32), "quantiles": np.zeros(101, np.float32)}
    for weight in ([], [0.1, 0.2], [-1.0]):
        path.write_bytes(save(good | {"leverage_weight": np.array(weight, np.float32)}))
        with pytest.raises(ArtefactCorrupt):
            Novelty.from_file(path)


_GOOD = {"weights": np.zeros((3, 2), np.float32), "offsets": np.zeros(2, np.float32)}


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        ({"weights": _GOOD["weights"]}, "expected"),
        (_GOOD | {"extra": np.zeros(1, np.float32)}, "expected"),
        (_GOOD | {"weights": np.zeros((3, 2), np.float64)}, "float64"),
        (_GOOD | {"weights": np.zeros(6, np.float32)}, "2 axes"),
        (_GOOD | {"weights": np.full((3, 2), np.nan, np.float32)}, "not finite"),
        (_GOOD | {"offsets": np.array([0, np.inf], np.float32)}, "not finite"),
        (_GOOD | {"offsets": np.zeros(3, np.float32)}, "for 2 labels"),
    ],
)
def test_a_head_file_that_is_odd_is_refused(tmp_path: Path, tensors: dict[str, np.ndarray], problem: str) -> None:
    path = tmp_path / "head.safetensors"
    path.write_bytes(save(tensors))
    with pytest.raises(ArtefactCorrupt, match=problem) as caught:
        LinearHead.from_file(path, ("a", "b"), 1.0)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"garbage", save(_GOOD)[:-5], b"\xff" * 100])
def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "head.safetensors"
    path.write_bytes(content)
    with pytest.raises(ArtefactCorrupt, match="safetensors"):
        LinearHead.from_file(path, ("a", "b"), 1.0)
    with pytest.raises(ArtefactCorrupt):
        RandomFeatures.from_file(tmp_path / "missing")
