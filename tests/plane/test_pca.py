"""Principal components of checkpoints, and where checkpoints lie on a plane: known answers and the full matrix."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape_mpi.errors import UserError
from landscape_mpi.plane import Matrix, Plane, RandomDirections, moved, pca, principal_components, project
from landscape_mpi.plane.parameters import dot
from landscape_mpi.plane.pca import gram, settled

SHAPES = {"conv.weight": (6, 3, 3, 3), "conv.bias": (6,), "linear.weight": (4, 6), "scale": ()}
MOVED = ("conv.weight", "linear.weight")


def drawn(seed, size=1.0):
    generator = torch.Generator().manual_seed(seed)
    return {name: size * torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


@pytest.fixture(scope="module")
def theta():
    return drawn(0)


def moved_to(theta, *steps):
    """theta plus some multiples of directions, kept in float64 so that nothing is rounded."""
    return {
        name: tensor.double() + sum(factor * direction[name].double() for factor, direction in steps)
        for name, tensor in theta.items()
    }


def matrix_of(checkpoints, theta, names=MOVED):
    return Matrix([lambda state=state: state for state in checkpoints], theta, names)


def flat(direction, names=MOVED):
    return np.concatenate([direction[name].double().numpy().ravel() for name in names])


def full(checkpoints, theta, names=MOVED):
    """The whole matrix theta_i - theta, which the code under test never holds."""
    return np.array([flat(state, names) - flat(theta, names) for state in checkpoints])


def curve(theta, points=9, noise=0.02):
    """A curved path in a plane that ends near theta, far off the origin's line, with a little noise."""
    u, w, start = drawn(1), drawn(2), drawn(3, 2.0)
    path = []
    for index in range(points):
        t = index / (points - 1)
        path.append(moved_to(theta, (1.0, start), (3 * t, u), (math.sin(3 * t), w), (noise, drawn(50 + index))))
    return path


def aligned(a, b):
    return abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b)


def test_components_are_those_of_the_full_centred_matrix(theta):
    checkpoints = curve(theta, noise=0.3)
    found = principal_components(matrix_of(checkpoints, theta), 2)
    centred = full(checkpoints, theta)
    centred -= centred.mean(axis=0)
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(found.explained, (lengths**2 / (lengths**2).sum())[:2], rtol=1e-10)
    for direction, axis in zip(found.directions, axes[:2], strict=True):
        ours = flat(direction)
        np.testing.assert_allclose(ours, axis * np.sign(ours @ axis), atol=1e-7)
        assert direction["conv.weight"].dtype == torch.float32


def test_rows_are_centred_as_in_the_authors_code(theta):
    """The path lies far from theta: without centring the first axis would point at it."""
    checkpoints = curve(theta)
    raw = full(checkpoints, theta)
    uncentred = np.linalg.svd(raw, full_matrices=False)[2]
    centred = np.linalg.svd(raw - raw.mean(axis=0), full_matrices=False)[2]
    delta = flat(principal_components(matrix_of(checkpoints, theta), 1).directions[0])
    assert aligned(delta, centred[0]) == pytest.approx(1, abs=1e-9)
    assert aligned(delta, uncentred[0]) < 0.9


def test_a_planted_plane_is_recovered_from_noise(theta):
    found = principal_components(matrix_of(curve(theta), theta), 2)
    plane = np.linalg.qr(np.array([flat(drawn(1)), flat(drawn(2))]).T)[0]
    for direction in found.directions:
        inside = plane.T @ flat(direction)
        assert np.linalg.norm(inside) == pytest.approx(1, abs=1e-3)
    assert sum(found.explained) > 0.999


def test_components_are_orthogonal_unit_vectors_that_leave_the_rest_alone(theta):
    delta, eta = principal_components(matrix_of(curve(theta), theta), 2).directions
    assert (dot(delta, delta), dot(eta, eta)) == pytest.approx((1, 1), abs=1e-6)
    assert dot(delta, eta) == pytest.approx(0, abs=1e-6)
    for direction in (delta, eta):
        assert list(direction) == list(SHAPES)
        assert not direction["conv.bias"].any()
        assert not direction["scale"].any()


def test_what_is_ignored_changes_nothing(theta):
    checkpoints = curve(theta)
    shuffled = [{**state, "conv.bias": state["conv.bias"].flip(0), "scale": torch.tensor(7.0)} for state in checkpoints]
    one, other = (principal_components(matrix_of(path, theta), 2) for path in (checkpoints, shuffled))
    assert one.explained == other.explained
    for ours, theirs in zip(one.directions, other.directions, strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in SHAPES)


def test_biasbn_moves_tensors_of_more_than_one_dimension(theta):
    assert moved(theta, "biasbn") == MOVED
    assert moved(theta, "none", ["*.weight"]) == MOVED
    with pytest.raises(UserError, match="leave no parameter to perturb"):
        moved(theta, "biasbn", ["*.bias"])


@pytest.mark.parametrize("columns", [1, 7, 100])
def test_the_gram_matrix_does_not_depend_on_the_blocks(theta, monkeypatch, columns):
    checkpoints = curve(theta, points=5)
    monkeypatch.setattr(pca, "BLOCK_BYTES", 8 * 5 * columns)
    matrix = matrix_of(checkpoints, theta)
    blocks = list(matrix.blocks())
    assert {block.shape[0] for block in blocks} == {5}
    assert max(block.shape[1] for block in blocks) == columns
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), full(checkpoints, theta))
    centred = full(checkpoints, theta)
    centred -= centred.mean(axis=0)
    products, square = gram(matrix)
    np.testing.assert_allclose(products, centred @ centred.T, rtol=1e-12, atol=1e-12)
    assert square == pytest.approx((full(checkpoints, theta) ** 2).sum(), rel=1e-12)


def test_at_most_a_block_of_the_matrix_is_held(theta, monkeypatch):
    monkeypatch.setattr(pca, "BLOCK_BYTES", 8 * 20 * 30)
    assert max(block.nbytes for block in matrix_of(curve(theta, points=20), theta).blocks()) == 8 * 20 * 30


def test_rows_that_are_theta_itself_are_left_out(theta):
    only_bias = {**theta, "conv.bias": theta["conv.bias"] + 1}
    checkpoints = [*curve(theta, points=3), theta, only_bias]
    assert len(matrix_of(checkpoints, theta).without_zeros().rows) == 3
    assert len(matrix_of(checkpoints, theta, tuple(SHAPES)).without_zeros().rows) == 4


@pytest.mark.parametrize(
    ("points", "count", "message"),
    [
        (0, 1, "found 0 checkpoints other than model.checkpoint, which span 0 dimensions around their mean; a line"),
        (1, 1, "found 1 checkpoint other than model.checkpoint, which span 0 dimensions"),
        (2, 2, "found 2 checkpoints other than model.checkpoint, which span 1 dimension around their mean; a plane"),
        (3, 3, "which span 2 dimensions around their mean; a volume needs four checkpoints that do not lie on a plane"),
    ],
)
def test_too_few_checkpoints(theta, points, count, message):
    with pytest.raises(UserError, match=message):
        principal_components(matrix_of(curve(theta, points=9)[:points], theta), count)


def test_a_straight_path_has_no_second_component(theta):
    straight = [{n: t.float() for n, t in moved_to(theta, (k, drawn(1))).items()} for k in (1.0, 2.0, 3.5, 5.0)]
    with pytest.raises(UserError, match=r"span 1 dimension .* three checkpoints that do not lie on a line"):
        principal_components(matrix_of(straight, theta), 2)
    assert principal_components(matrix_of(straight, theta), 1).explained == pytest.approx((1.0,))


def test_copies_of_one_checkpoint_span_nothing(theta):
    with pytest.raises(UserError, match=r"found 5 checkpoints other than model\.checkpoint, which span 0 dimensions"):
        principal_components(matrix_of([drawn(1)] * 5, theta), 1)


def test_the_run_starts_on_the_positive_side_of_its_mean(theta):
    checkpoints = curve(theta, noise=0.3)
    centred = full(checkpoints, theta)
    centred -= centred.mean(axis=0)
    for direction in principal_components(matrix_of(checkpoints, theta), 2).directions:
        assert centred[0] @ flat(direction) > 0


def test_signs_and_last_digits_of_eigenvectors_do_not_matter():
    generator = np.random.default_rng(0)
    vectors = np.linalg.qr(generator.normal(size=(40, 2)) - 0.1)[0]
    noisy = -vectors * (1 + 1e-14 * generator.normal(size=vectors.shape))
    np.testing.assert_array_equal(settled(vectors), settled(noisy))
    negligible = np.array([[-1e-9], [0.6], [-0.8 + 1e-9], [0.2]])
    assert settled(negligible)[1, 0] > 0


@settings(max_examples=25)
@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(-0.8, 0.8), st.floats(0.01, 100))
def test_a_point_of_the_plane_has_its_own_coordinates_and_no_residual(alpha, beta, lean, length):
    """Also where delta and eta are neither orthogonal nor of one length."""
    theta, delta = drawn(0), drawn(1)
    eta = {name: length * (lean * delta[name] + tensor) for name, tensor in drawn(2).items()}
    found = project([lambda: moved_to(theta, (alpha, delta), (beta, eta))], Plane(theta, (delta, eta)))
    np.testing.assert_allclose(found.coordinates, [[alpha, beta]], atol=1e-9)
    assert found.residual[0] < 1e-10 * (1 + length)


def test_what_lies_off_the_plane_is_the_residual(theta):
    delta, eta = drawn(1), drawn(2)
    basis = np.linalg.qr(np.array([flat(d, tuple(SHAPES)) for d in (delta, eta, drawn(3))]).T)[0].T
    off, place = {}, 0
    for name, shape in SHAPES.items():
        size = math.prod(shape)
        off[name] = torch.from_numpy(basis[2][place : place + size].reshape(shape).copy())
        place += size
    found = project([lambda: moved_to(theta, (0.5, delta), (-2.0, eta), (0.75, off))], Plane(theta, (delta, eta)))
    np.testing.assert_allclose(found.coordinates, [[0.5, -2.0]], atol=1e-12)
    np.testing.assert_allclose(found.residual, [0.75], rtol=1e-12)


def test_parameters_that_the_plane_leaves_alone_are_in_no_residual(theta):
    delta = {**drawn(1), "conv.bias": torch.zeros(6), "scale": torch.zeros(())}
    there = {**moved_to(theta, (2.0, delta)), "conv.bias": torch.full((6,), 9.0)}
    found = project([lambda: there], Plane(theta, (delta,)))
    assert found.coordinates.shape == (1, 1)
    np.testing.assert_allclose(found.coordinates, [[2.0]], atol=1e-12)
    assert found.residual[0] < 1e-12


def test_parallel_directions_share_what_they_both_reach(theta):
    delta = drawn(1)
    plane = Plane(theta, (delta, {name: 2 * tensor for name, tensor in delta.items()}))
    found = project([lambda: moved_to(theta, (5.0, delta))], plane)
    assert found.coordinates[0] @ [1, 2] == pytest.approx(5)
    assert found.residual[0] < 1e-10


def test_random_directions_see_nothing_of_a_path():
    """Li et al., section 7.1: the cosine of random directions in n dimensions is sqrt(2 / (pi n)) on average."""
    theta = {"weight": torch.zeros(40, 50)}
    path = torch.ones(40, 50)
    cosines = []
    for seed in range(400):
        d = RandomDirections(seed, "none", "none").draw(theta, 0)["weight"]
        cosines.append(abs((d * path).sum().item() / d.norm().item() / path.norm().item()))
    expected = math.sqrt(2 / (math.pi * path.numel()))
    # a half-normal has a standard deviation of 0.756 means, so 4 standard errors are 0.15 of it
    assert np.mean(cosines) == pytest.approx(expected, rel=0.15)
