(* Residual identities of the polynomial pseudoinverse iterations.

   A is m x n, Z is n x m (an approximate inverse), E = I - A Z is the residual.  Every step
   below is Z := Z q(A Z) for a scalar polynomial q, so that its new residual is a polynomial in
   A Z.  We carry both sides through the ring morphism p |-> p(A Z) and compare two scalar
   polynomials with [ring].  Sizes m and n are arbitrary, zero included. *)
From mathcomp Require Import all_ssreflect all_algebra ring.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import GRing.Theory.
Local Open Scope ring_scope.

(* The k-th power of a square matrix. *)
Definition mxpow (R : ringType) n (E : 'M[R]_n) (k : nat) : 'M[R]_n := iter k (mulmx E) 1%:M.
Arguments mxpow : simpl never.

Lemma mxpowE (R : ringType) n (E : 'M[R]_n.+1) k : mxpow E k = E ^+ k.
Proof. by elim: k => [|k IH] //; rewrite /mxpow iterS -/(mxpow E k) IH exprS. Qed.

Section Steps.
Variables (F : fieldType) (m n : nat).
Implicit Types (A : 'M[F]_(m, n)) (Z : 'M[F]_(n, m)).

(* Two products: Newton-Schulz (Hotelling, Schulz). *)
Definition newton_schulz A Z : 'M[F]_(n, m) := Z *m (2%:R%:M - A *m Z).

(* Three products: Chebyshev's iteration. *)
Definition chebyshev_step A Z : 'M[F]_(n, m) := let P := A *m Z in
  Z *m (3%:R%:M - P *m (3%:R%:M - P)).

(* Four products: eq. (14) of the paper, after Razavi et al. *)
Definition razavi A Z : 'M[F]_(n, m) := let P := A *m Z in
  4%:R^-1 *: (Z *m (13%:R%:M - P *m (15%:R%:M - P *m (7%:R%:M - P)))).

(* Four products (A Z, R R, one square, the outer one): hyperpower of order five. *)
Definition hyperpower5 A Z : 'M[F]_(n, m) :=
  let R := 1%:M - A *m Z in
  let S := R *m R in
  let Y := S + 2%:R^-1 *: R in
  Z *m (1%:M + R + (3%:R / 4%:R) *: S + Y *m Y).

(* Five products: hyperpower of order nine. *)
Definition hyperpower9 A Z : 'M[F]_(n, m) :=
  let R := 1%:M - A *m Z in
  let S := R *m R in
  let Y := S *m (S + 2%:R^-1 *: R) in
  Z *m ((Y + (3%:R / 4%:R) *: S - 4%:R^-1 *: R) *m (Y + (7%:R / 8%:R) *: R)
        + (11%:R / 16%:R) *: Y + (39%:R / 32%:R) *: S + R + 1%:M).
End Steps.

(* A step Z q(E), E = I - A Z, has the residual I - (I - E) q(E): a polynomial in E alone. *)
Lemma residual_of_step (F : fieldType) m n (A : 'M[F]_(m.+1, n)) (Z : 'M[F]_(n, m.+1)) (q r : {poly F}) :
  1 - (1 - 'X) * q = r ->
  1%:M - A *m (Z *m horner_mx (1%:M - A *m Z) q) = horner_mx (1%:M - A *m Z) r.
Proof.
move=> <-; rewrite mulmxA rmorphB rmorph1 rmorphM /= rmorphB /= horner_mx_X.
by rewrite !rmorph1 opprB addrCA subrr addr0.
Qed.

(* The scalar identities, with c = 1/2. *)
Section Scalars.
Variables (R : comRingType) (c x : R).
Hypothesis half : 2%:R * c = 1.

Lemma scalar_razavi :
  1 - (1 - x) * (c ^+ 2 * (13%:R - (1 - x) * (15%:R - (1 - x) * (7%:R - (1 - x)))))
  = 3%:R * c ^+ 2 * x ^+ 3 + c ^+ 2 * x ^+ 4.
Proof.
transitivity (1 - (2%:R * c) ^+ 2 + 3%:R * c ^+ 2 * x ^+ 3 + c ^+ 2 * x ^+ 4); first by ring.
by rewrite half; ring.
Qed.

Lemma scalar_hyperpower5 :
  1 - (1 - x) * (1 + x + 3%:R * c ^+ 2 * x ^+ 2 + (x ^+ 2 + c * x) * (x ^+ 2 + c * x)) = x ^+ 5.
Proof.
transitivity (1 - (1 - x) * (1 + x + (2%:R * c) ^+ 2 * x ^+ 2 + 2%:R * c * x ^+ 3 + x ^+ 4)); first by ring.
by rewrite half; ring.
Qed.

Lemma scalar_hyperpower9 :
  let y := x ^+ 2 * (x ^+ 2 + c * x) in
  1 - (1 - x) * ((y + 3%:R * c ^+ 2 * x ^+ 2 - c ^+ 2 * x) * (y + 7%:R * c ^+ 3 * x)
                 + 11%:R * c ^+ 4 * y + 39%:R * c ^+ 5 * x ^+ 2 + x + 1) = x ^+ 9.
Proof.
rewrite /=; set h := 2%:R * c.
transitivity (1 - (1 - x) * (1 + x + h ^+ 5 * x ^+ 2 + h ^+ 5 * x ^+ 3 + (h ^+ 4 + c ^+ 3 * (h - 1)) * x ^+ 4
                             + (h ^+ 3 + c ^+ 2 * (h - 1)) * x ^+ 5 + h ^+ 2 * x ^+ 6 + h * x ^+ 7 + x ^+ 8)).
  by rewrite /h; ring.
by rewrite /h half; ring.
Qed.
End Scalars.


(* The dyadic coefficients as constant polynomials. *)
Section Half.
Variables (F : fieldType).
Hypothesis two : 2%:R != 0 :> F.
Let c : {poly F} := (2%:R^-1)%:P.

Lemma half_poly : 2%:R * c = 1.
Proof. by rewrite -(rmorph_nat [rmorphism of polyC]) -rmorphM divff. Qed.

Lemma scale_dyadic (a k : nat) (p : {poly F}) : a%:R * c ^+ k * p = (a%:R / (2 ^ k)%:R) *: p.
Proof. by rewrite -mul_polyC natrX -exprVn rmorphM rmorphX /= rmorph_nat. Qed.

Lemma scale_dyadic1 (k : nat) (p : {poly F}) : c ^+ k * p = (2 ^ k)%:R^-1 *: p.
Proof. by rewrite -[c ^+ k]mul1r (scale_dyadic 1) mul1r. Qed.
End Half.

Lemma horner_mx_power (F : fieldType) m (E : 'M[F]_m.+1) k : horner_mx E 'X^k = mxpow E k.
Proof. by rewrite rmorphX /= horner_mx_X mxpowE. Qed.

Lemma horner_mx_scale (F : fieldType) m (E : 'M[F]_m.+1) a p : horner_mx E (a *: p) = a *: horner_mx E p.
Proof. exact: linearZ. Qed.

Ltac at_residual := rewrite ?horner_mx_scale ?(rmorphB, rmorphD, rmorphM, rmorphX) /= ?horner_mx_scale
  ?(rmorphB, rmorphD, rmorphM, rmorphX) /= ?(horner_mx_X, horner_mx_C) ?rmorph1.

Theorem newton_schulz_residual :
  forall (F : fieldType) (m n : nat) (A : 'M[F]_(m, n)) (Z : 'M[F]_(n, m)),
  let E := 1%:M - A *m Z in
  1%:M - A *m newton_schulz A Z = mxpow E 2.
Proof.
move=> F [|m] n A Z E; first by rewrite [LHS]flatmx0 [RHS]flatmx0.
rewrite -horner_mx_power -(@residual_of_step _ _ _ A Z (1 + 'X) 'X^2); last by ring.
by congr (_ - A *m (Z *m _)); at_residual; rewrite addrA.
Qed.

Theorem chebyshev_residual :
  forall (F : fieldType) (m n : nat) (A : 'M[F]_(m, n)) (Z : 'M[F]_(n, m)),
  let E := 1%:M - A *m Z in
  1%:M - A *m chebyshev_step A Z = mxpow E 3.
Proof.
move=> F [|m] n A Z E; first by rewrite [LHS]flatmx0 [RHS]flatmx0.
pose q : {poly F} := 3%:R%:P - (1 - 'X) * (3%:R%:P - (1 - 'X)).
rewrite -horner_mx_power -(@residual_of_step _ _ _ A Z q 'X^3); last by rewrite /q; ring.
by congr (_ - A *m (Z *m _)); rewrite /q; at_residual; rewrite subKr.
Qed.

Theorem razavi_residual :
  forall (F : fieldType) (m n : nat) (A : 'M[F]_(m, n)) (Z : 'M[F]_(n, m)),
  2%:R != 0 :> F ->
  let E := 1%:M - A *m Z in
  1%:M - A *m razavi A Z = (3%:R / 4%:R) *: mxpow E 3 + (1%:R / 4%:R) *: mxpow E 4.
Proof.
move=> F [|m] n A Z two E; first by rewrite [LHS]flatmx0 [RHS]flatmx0.
rewrite -!horner_mx_power -!horner_mx_scale -rmorphD /=.
pose q : {poly F} := 4%:R^-1 *: (13%:R%:P - (1 - 'X) * (15%:R%:P - (1 - 'X) * (7%:R%:P - (1 - 'X)))).
rewrite -(@residual_of_step _ _ _ A Z q); last first.
  rewrite -(@scale_dyadic F 3 2) -(@scale_dyadic F 1 2) mulr1n mul1r.
  rewrite -(scalar_razavi 'X (half_poly two)) /q.
  by rewrite scale_dyadic1 !rmorph_nat.
rewrite /razavi scalemxAr; congr (_ - A *m (Z *m _)).
rewrite /q horner_mx_scale rmorphB rmorphM /= !rmorphB rmorphM /= !rmorphB /= !(horner_mx_X, horner_mx_C) rmorph1.
by rewrite !subKr.
Qed.

Theorem hyperpower5_residual :
  forall (F : fieldType) (m n : nat) (A : 'M[F]_(m, n)) (Z : 'M[F]_(n, m)),
  2%:R != 0 :> F ->
  let E := 1%:M - A *m Z in
  1%:M - A *m hyperpower5 A Z = mxpow E 5.
Proof.
move=> F [|m] n A Z two E; first by rewrite [LHS]flatmx0 [RHS]flatmx0.
rewrite -horner_mx_power -(scalar_hyperpower5 'X (half_poly two)).
rewrite -(@residual_of_step _ _ _ A Z _ _ erefl).
congr (_ - A *m (Z *m _)).
rewrite scale_dyadic mul_polyC.
by at_residual.
Qed.

Theorem hyperpower9_residual :
  forall (F : fieldType) (m n : nat) (A : 'M[F]_(m, n)) (Z : 'M[F]_(n, m)),
  2%:R != 0 :> F ->
  let E := 1%:M - A *m Z in
  1%:M - A *m hyperpower9 A Z = mxpow E 9.
Proof.
move=> F [|m] n A Z two E; first by rewrite [LHS]flatmx0 [RHS]flatmx0.
rewrite -horner_mx_power -(scalar_hyperpower9 'X (half_poly two)).
rewrite -(@residual_of_step _ _ _ A Z _ _ erefl).
congr (_ - A *m (Z *m _)).
rewrite !scale_dyadic scale_dyadic1 mul_polyC.
by at_residual; at_residual.
Qed.
