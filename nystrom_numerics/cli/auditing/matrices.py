"""Every bound for a matrix or a kernel of points, against the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nystrom_numerics.cli.auditing import pictures
from nystrom_numerics.cli.auditing.finding import Finding, Line, Options, counts
from nystrom_numerics.cli.matrix_files import UnreadableFileError

if TYPE_CHECKING:
    from nystrom_numerics.bounds import Audit
    from nystrom_numerics.kernels import Kernel

__all__ = ["DEFAULT_RULE", "noise_of", "of_matrix"]

DEFAULT_RULE = "accelerated_rpcholesky"


def noise_of(roundoff: float) -> float:
    """How far an entry may be from that of the PSD matrix meant, by the roundoff of the format it is stored in.

    Sixteen bits are a format of storage: one rounding.  In float32 entries are computed, with some more; and those of
    float64 are what the kernel takes them for.
    """
    if roundoff < 2.0**-50:
        return 0.0
    return roundoff if roundoff > 2.0**-20 else 16 * roundoff


def of_matrix(kernel: Kernel, title: str, asked: Options) -> Finding:
    from nystrom_numerics import bounds, landmarks

    n, m, seed = kernel.shape[0], asked.m, asked.seed
    if m > n:
        raise UnreadableFileError(f"{m} landmarks for {n} rows; give --landmarks of at most {n}")
    rule = landmarks.RULES[asked.rule or DEFAULT_RULE]

    def audited(c: int) -> Audit:
        return bounds.audit(kernel, rule(kernel, c, rng=seed), rng=seed)

    found = audited(m)
    lines = tuple(Line(line.name, line.bound, line.tightness, line.of) for line in found.lines)
    failed = tuple(f"{line.name} ({line.of}): {line.bound}" for line in found.failed)
    two, frobenius, trace = found.truth
    chosen = getattr(found.factor.landmarks, "indices", None)
    facts: tuple[str, ...] = (
        f"{n} × {n}, {len(found.factor.kept)} landmarks kept of {m}, chosen by {rule.title}, seed {seed}.",
        f"Error: spectral norm {two:.4g}, Frobenius norm {frobenius:.4g}, trace norm {trace:.4g}.",
    )
    if kernel.noise:
        facts += (
            f"Entries count as known to {kernel.noise:.1g} of the largest diagonal entry, as they are stored.",
        )
    figures = (
        (
            "Eigenvalues in descending order, and where the landmarks end.",
            lambda: pictures.spectrum(found.spectrum.values, m),
        ),
        (
            "Error against the number of landmarks, beside its bounds, in three norms.",
            lambda: pictures.errors_of({c: found if c == m else audited(c) for c in counts(m, n)}),
        ),
    )
    told = "synthetic points" if chosen is None else ", ".join(str(int(i)) for i in chosen)
    return Finding(title, facts, lines, failed, told, figures)
