"""Falsification by Hypothesis: the claims' own trials, drawn, and the exact tools they rest on."""

from fractions import Fraction

import pytest
from flint import arb
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs_check import claims
from proofs_check.balls import ball, largest_eigenvalue, positive_on
from proofs_check.exact import Instances, diagonal, form, identity, matrix, pinv, q, sqnorm
from proofs_check.iterations import Products, razavi

TRIALS = {name: module for name, module in claims().items() if hasattr(module, "trial")}

small = st.integers(-4, 4)


def matrices(rows: st.SearchStrategy[int], columns: st.SearchStrategy[int]) -> st.SearchStrategy:
    def draw(shape: tuple[int, int]) -> st.SearchStrategy:
        row = st.lists(small, min_size=shape[1], max_size=shape[1])
        return st.lists(row, min_size=shape[0], max_size=shape[0]).map(matrix)

    return st.tuples(rows, columns).flatmap(draw)


sizes = st.integers(1, 4)


@pytest.mark.parametrize("name", TRIALS)
@given(seed=st.integers(0, 2**63))
@settings(max_examples=25, deadline=None)
def test_no_drawn_instance_contradicts_a_theorem(name: str, seed: int) -> None:
    module = TRIALS[name]
    assert module.trial(module.CLAIM, Instances(seed)) is None


@given(matrices(sizes, sizes))
@settings(deadline=None)
def test_pinv_satisfies_the_penrose_conditions(X) -> None:
    G = pinv(X)
    assert X * G * X == X
    assert G * X * G == G
    assert (X * G).transpose() == X * G
    assert (G * X).transpose() == G * X


@given(matrices(sizes, sizes))
@settings(deadline=None)
def test_a_gram_matrix_has_its_largest_eigenvalue_above_every_rayleigh_quotient(X) -> None:
    K = X * X.transpose()
    top = largest_eigenvalue(K)
    for x in (matrix([[1]] * K.nrows()), matrix([[i + 1] for i in range(K.nrows())])):
        assert not arb(form(x, K, x)) > top * arb(sqnorm(x)) + arb(10) ** -10


@given(st.fractions(Fraction(1, 1000), 2, max_denominator=1000))
@settings(deadline=None)
def test_the_matrix_step_on_a_scalar_is_the_scalar_step(x: Fraction) -> None:
    from proofs_check.iterations import eq14_eigenvalue

    Z = diagonal([q(x)])
    assert razavi(identity(1), Z, Products())[0, 0] == q(eq14_eigenvalue(x))


def test_positive_on_certifies_and_refuses() -> None:
    assert positive_on(lambda x: x * x + 1, Fraction(-1), Fraction(1))[0]
    certified, _, where = positive_on(lambda x: x - ball(Fraction(1, 2)), Fraction(0), Fraction(1))
    assert not certified
    assert where.startswith("[")


def test_a_touching_function_is_never_certified() -> None:
    assert not positive_on(lambda x: x * x, Fraction(-1), Fraction(1))[0]
