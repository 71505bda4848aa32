"""Softmax attention, exact and by Nyström approximation."""

from nystrom_numerics.attention.causal import causal
from nystrom_numerics.attention.causal_operator import causal_operator
from nystrom_numerics.attention.certificate import AttentionCertificate, certify_rows
from nystrom_numerics.attention.choosing import Choices, approximate, choose
from nystrom_numerics.attention.estimators import ESTIMATORS
from nystrom_numerics.attention.exact import exact, exact_operator
from nystrom_numerics.attention.finite_sample import Guaranteed
from nystrom_numerics.attention.heads import certify_heads
from nystrom_numerics.attention.lift import LiftBounds, psd_lift
from nystrom_numerics.attention.near_field import near_field
from nystrom_numerics.attention.near_field_operator import near_field_operator
from nystrom_numerics.attention.normalised import normalised, normalised_operator
from nystrom_numerics.attention.nystrom import NystromOperator, Pinv, nystrom, nystrom_operator
from nystrom_numerics.attention.operator_certificate import certify_draws, certify_operator
from nystrom_numerics.attention.operators import AttentionOperator, TransposedOperator
from nystrom_numerics.attention.output_certificate import OutputCertificate, certify_output
from nystrom_numerics.attention.ridge import ridge
from nystrom_numerics.attention.tangent import tangent
from nystrom_numerics.attention.tangent_operator import tangent_operator
from nystrom_numerics.attention.widths import Reach

__all__ = [
    "ESTIMATORS",
    "AttentionCertificate",
    "AttentionOperator",
    "Choices",
    "Guaranteed",
    "LiftBounds",
    "NystromOperator",
    "OutputCertificate",
    "Pinv",
    "Reach",
    "TransposedOperator",
    "approximate",
    "causal",
    "causal_operator",
    "certify_draws",
    "certify_heads",
    "certify_operator",
    "certify_output",
    "certify_rows",
    "choose",
    "exact",
    "exact_operator",
    "near_field",
    "near_field_operator",
    "normalised",
    "normalised_operator",
    "nystrom",
    "nystrom_operator",
    "psd_lift",
    "ridge",
    "tangent",
    "tangent_operator",
]
