"""How far an approximation is from the truth, and how one knows: bounds, estimates, certificates.

Before the fact, from a spectrum: for PSD matrices :mod:`~nystrom_numerics.bounds.apriori` for any landmarks,
:mod:`~nystrom_numerics.bounds.drawn` in probability, :mod:`~nystrom_numerics.bounds.expected` in the mean;
:mod:`~nystrom_numerics.bounds.cross` for rows and columns of any,
:mod:`~nystrom_numerics.bounds.quantisation` from points.  After the fact, free of charge
:mod:`~nystrom_numerics.bounds.aposteriori`; from products with the error :mod:`~nystrom_numerics.bounds.probes`,
:mod:`~nystrom_numerics.bounds.lanczos`, :mod:`~nystrom_numerics.bounds.traces`.  :func:`certify` gathers
what is known of a factor, :func:`audit` holds every bound against the truth, and :data:`BOUNDS` lists them all.
"""

from nystrom_numerics.bounds.aposteriori import leave_one_out, psd_sandwich
from nystrom_numerics.bounds.apriori import eckart_young, gittens_mahoney, structural
from nystrom_numerics.bounds.audit import Audit, Line, audit
from nystrom_numerics.bounds.certificate import certify
from nystrom_numerics.bounds.cross import (
    generalised_nystrom,
    goreinov_tyrtyshnikov,
    oversampled_cross,
    sorensen_embree,
)
from nystrom_numerics.bounds.drawn import (
    additive_uniform,
    additive_weighted,
    coherence,
    drawn_leverage,
    musco_musco,
)
from nystrom_numerics.bounds.expected import (
    belabbas_wolfe,
    dpp_expectation,
    gaussian_sketch,
    rpcholesky_expectation,
)
from nystrom_numerics.bounds.lanczos import lanczos_norm
from nystrom_numerics.bounds.probes import Operator, frobenius_probes, gaussian_norm_bound
from nystrom_numerics.bounds.problems import (
    CrossProblem,
    GroupsProblem,
    NearProblem,
    NystromProblem,
    OperatorProblem,
    PerturbationProblem,
    PinvProblem,
    ScoresProblem,
    SketchProblem,
    Subject,
    TangentProblem,
)
from nystrom_numerics.bounds.propagation import (
    PinvError,
    pinv_error,
    row_normalisation,
    softmax_lipschitz,
    wedin,
)
from nystrom_numerics.bounds.quantisation import gaussian_quantisation, kernel_quantisation, zhang_tsang_kwok
from nystrom_numerics.bounds.registry import BOUNDS, Law, Registered
from nystrom_numerics.bounds.result import Bound, Certificate, Estimate, Hypothesis, Norm, Side
from nystrom_numerics.bounds.rows import group_sums, near_rows, softmax_range, tangent_rows
from nystrom_numerics.bounds.spectrum import Spectrum, psd_spectrum
from nystrom_numerics.bounds.traces import hutchpp, trace_within, xnystrace, xtrace

__all__ = [
    "BOUNDS",
    "Audit",
    "Bound",
    "Certificate",
    "CrossProblem",
    "Estimate",
    "GroupsProblem",
    "Hypothesis",
    "Law",
    "Line",
    "NearProblem",
    "Norm",
    "NystromProblem",
    "Operator",
    "OperatorProblem",
    "PerturbationProblem",
    "PinvError",
    "PinvProblem",
    "Registered",
    "ScoresProblem",
    "Side",
    "SketchProblem",
    "Spectrum",
    "Subject",
    "TangentProblem",
    "additive_uniform",
    "additive_weighted",
    "audit",
    "belabbas_wolfe",
    "certify",
    "coherence",
    "dpp_expectation",
    "drawn_leverage",
    "eckart_young",
    "frobenius_probes",
    "gaussian_norm_bound",
    "gaussian_quantisation",
    "gaussian_sketch",
    "generalised_nystrom",
    "gittens_mahoney",
    "goreinov_tyrtyshnikov",
    "group_sums",
    "hutchpp",
    "kernel_quantisation",
    "lanczos_norm",
    "leave_one_out",
    "musco_musco",
    "near_rows",
    "oversampled_cross",
    "pinv_error",
    "psd_sandwich",
    "psd_spectrum",
    "row_normalisation",
    "rpcholesky_expectation",
    "softmax_lipschitz",
    "softmax_range",
    "sorensen_embree",
    "structural",
    "tangent_rows",
    "trace_within",
    "wedin",
    "xnystrace",
    "xtrace",
    "zhang_tsang_kwok",
]
