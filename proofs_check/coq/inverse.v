(* What the core of eq. (13), S^ = F A^-1 B, reproduces exactly, and how an approximate inverse
   of it propagates.  F is n x m, A (or W) is m x m, B is m x N; every size is arbitrary. *)
From mathcomp Require Import all_ssreflect all_algebra ring.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import GRing.Theory.
Local Open Scope ring_scope.

(* The all-ones column: X 1 = 1 says that the rows of X sum to one. *)
Definition ones (F : fieldType) n : 'cV[F]_n := const_mx 1.

(* Rows divided by d. *)
Definition normalise (F : fieldType) n N (d : 'rV[F]_n) (X : 'M[F]_(n, N)) : 'M[F]_(n, N) :=
  diag_mx (map_mx (fun x => x^-1) d) *m X.

Lemma invmx_mul (F : fieldType) m (X Y : 'M[F]_m) :
  X \in unitmx -> Y \in unitmx -> invmx (X *m Y) = invmx Y *m invmx X.
Proof.
move=> unitX unitY; have unitXY : X *m Y \in unitmx by rewrite unitmx_mul unitX.
apply: (can_inj (mulKmx unitXY)).
by rewrite mulmxV // mulmxA mulmxK // mulmxV.
Qed.

Theorem backward_error :
  forall (F : fieldType) (p m q : nat) (C : 'M[F]_(p, m)) (W Z : 'M[F]_m) (B : 'M[F]_(m, q)),
  W \in unitmx ->
  C *m (invmx W - Z) *m B = (C *m invmx W) *m (W - W *m Z *m W) *m (invmx W *m B).
Proof.
move=> F p m q C W Z B unitW; rewrite !mulmxBr !mulmxBl !mulmxA.
by rewrite !(mulmxKV unitW, mulmxK unitW).
Qed.

(* The same with a reflexive inverse V of a singular core, for Z in the range of V on both sides. *)
Theorem backward_error_singular :
  forall (F : fieldType) (p m q : nat) (C : 'M[F]_(p, m)) (W V Z : 'M[F]_m) (B : 'M[F]_(m, q)),
  V *m W *m V = V ->
  V *m W *m Z = Z ->
  Z *m W *m V = Z ->
  C *m (V - Z) *m B = (C *m V) *m (W - W *m Z *m W) *m (V *m B).
Proof.
move=> F p m q C W V Z B reflexive left right.
have -> : V - Z = V *m (W - W *m Z *m W) *m V.
  by rewrite mulmxBr mulmxBl reflexive !mulmxA left right.
by rewrite !mulmxA.
Qed.

Theorem row_sums :
  forall (F : fieldType) (n m N : nat) (P : 'M[F]_(n, m)) (A : 'M[F]_m) (B : 'M[F]_(m, N)),
  A \in unitmx ->
  P *m ones F m = ones F n ->
  A *m ones F m = ones F m ->
  B *m ones F N = ones F m ->
  P *m invmx A *m B *m ones F N = ones F n.
Proof.
move=> F n m N P A B unitA sumP sumA sumB.
by rewrite -mulmxA sumB -{1}sumA mulmxA mulmxKV.
Qed.

Theorem row_exactness :
  forall (F : fieldType) (n m N : nat) (P : 'M[F]_(n, m)) (A : 'M[F]_m) (B : 'M[F]_(m, N))
         (i : 'I_n) (p : 'I_m),
  A \in unitmx ->
  row i P = row p A ->
  row i (P *m invmx A *m B) = row p B.
Proof.
move=> F n m N P A B i p unitA same.
by rewrite !row_mul same -!row_mul mulmxV // mul1mx.
Qed.

(* Every token is a landmark: S = P A Q, F = P A, B = A Q for selections P and Q, and any generalised
   inverse G of A will do.  (B = A Q needs each landmark key to occur equally often among the keys.) *)
Theorem landmark_tokens_exact :
  forall (F : fieldType) (n m N : nat) (P : 'M[F]_(n, m)) (A G : 'M[F]_m) (Q : 'M[F]_(m, N)),
  A *m G *m A = A ->
  (P *m A) *m G *m (A *m Q) = P *m A *m Q.
Proof.
move=> F n m N P A G Q inner.
have -> : P *m A *m G *m (A *m Q) = P *m (A *m G *m A) *m Q by rewrite !mulmxA.
by rewrite inner.
Qed.

(* Every query is a landmark (P selects them) and A is invertible: exact for any landmark keys. *)
Theorem query_landmarks_exact :
  forall (F : fieldType) (n m N : nat) (P : 'M[F]_(n, m)) (A : 'M[F]_m) (B : 'M[F]_(m, N)),
  A \in unitmx ->
  (P *m A) *m invmx A *m B = P *m B.
Proof. by move=> F n m N P A B unitA; rewrite mulmxK. Qed.

(* Cross approximation with an invertible core is exact if and only if the rank is the core's. *)
Theorem cross_exact_iff_rank :
  forall (F : fieldType) (n m N : nat) (K : 'M[F]_(n, N)) (P : 'M[F]_(m, n)) (Q : 'M[F]_(N, m)),
  P *m K *m Q \in unitmx ->
  (K *m Q) *m invmx (P *m K *m Q) *m (P *m K) = K <-> \rank K = m.
Proof.
move=> F n m N K P Q; set W := P *m K *m Q => unitW; split=> [exact|].
  apply/eqP; rewrite eqn_leq; apply/andP; split.
    by rewrite -exact -mulmxA; apply: leq_trans (mxrankM_maxr _ _) _;
       apply: leq_trans (mxrankM_maxr _ _) (rank_leq_row _).
  rewrite -[m in (m <= _)%N](mxrank_unit unitW) /W -mulmxA.
  by apply: leq_trans (mxrankM_maxr _ _) (mxrankM_maxl _ _).
move=> rankK; move: (col_base K) (row_base K) (mulmx_base K); rewrite rankK => X Y defK.
have unitX : P *m X \in unitmx.
  by move: unitW; rewrite /W -defK mulmxA -mulmxA unitmx_mul => /andP[].
have unitY : Y *m Q \in unitmx.
  by move: unitW; rewrite /W -defK mulmxA -mulmxA unitmx_mul => /andP[].
have -> : W = (P *m X) *m (Y *m Q) by rewrite /W -defK !mulmxA.
rewrite -defK invmx_mul // !mulmxA -[X *m Y *m Q]mulmxA mulmxK //.
by rewrite -[X *m invmx _ *m P *m X]mulmxA mulmxKV.
Qed.

(* Approximating the unnormalised kernel and normalising its rows afterwards: exact at rank m. *)
Theorem normalised_cross_exact :
  forall (F : fieldType) (n m N : nat) (K : 'M[F]_(n, N)) (P : 'M[F]_(m, n)) (Q : 'M[F]_(N, m)),
  P *m K *m Q \in unitmx ->
  \rank K = m ->
  let L := (K *m Q) *m invmx (P *m K *m Q) *m (P *m K) in
  normalise (L *m ones F N)^T L = normalise (K *m ones F N)^T K.
Proof.
by move=> F n m N K P Q unitW rankK L; rewrite /L; have [_ ->] := cross_exact_iff_rank unitW.
Qed.

Lemma equal_ratios (F : fieldType) (d f a b t : F) :
  d != 0 -> f != 0 -> a != 0 -> b != 0 -> t != 0 ->
  (f^-1 * t * a / b == d^-1 * t) = (d / f == b / a).
Proof.
move=> d0 f0 a0 b0 t0.
have -> : f^-1 * t * a / b = (t * a) / (f * b) by rewrite invfM; ring.
rewrite [d^-1 * t]mulrC !eqr_div ?mulf_neq0 // -mulrA (inj_eq (mulfI t0)).
by rewrite [a * d]mulrC [f * b]mulrC.
Qed.

(* Eq. (13) on a kernel K = C W^-1 R of rank m.  d, f, b, a hold the row sums of K, C, R, W: the
   normalised blocks are S = K/d, F = C/f, B = R/b, A = W/a.  Eq. (13) returns S if and only if
   query i and query landmark p weigh all keys against the landmark keys alike whenever
   (C W^-1)_ip is not zero. *)
Theorem eq13_exact_iff :
  forall (F : fieldType) (n m N : nat) (C : 'M[F]_(n, m)) (W : 'M[F]_m) (R : 'M[F]_(m, N))
         (d f : 'rV[F]_n) (a b : 'rV[F]_m),
  W \in unitmx ->
  row_free R ->
  (forall i, d 0 i != 0) -> (forall i, f 0 i != 0) ->
  (forall p, a 0 p != 0) -> (forall p, b 0 p != 0) ->
  normalise f C *m invmx (normalise a W) *m normalise b R = normalise d (C *m invmx W *m R)
  <-> (forall i p, (C *m invmx W) i p != 0 -> d 0 i / f 0 i = b 0 p / a 0 p).
Proof.
move=> F n m N C W R d f a b unitW freeR d0 f0 a0 b0.
pose inv k (v : 'rV[F]_k) := diag_mx (map_mx (fun x => x^-1) v).
have invK : diag_mx a *m inv m a = 1%:M.
  rewrite /inv mulmx_diag; apply/matrixP=> i j; rewrite !mxE.
  by case: eqP => // _; rewrite mulfV.
have unita : diag_mx a \in unitmx by apply: (proj1 (mulmx1_unit invK)).
have unitinv : inv m a \in unitmx by apply: (proj2 (mulmx1_unit invK)).
have inva : invmx (inv m a) = diag_mx a.
  by apply: (can_inj (mulKmx unitinv)); rewrite mulmxV // (mulmx1C invK).
rewrite /normalise -!/(inv _ _) invmx_mul // inva.
set T := C *m invmx W.
rewrite !mulmxA -[inv n f *m C *m _]mulmxA -[inv n d *m C *m _]mulmxA -/T.
have entry i p : (inv n f *m T *m diag_mx a *m inv m b) i p = (f 0 i)^-1 * T i p * a 0 p / b 0 p.
  by rewrite /inv !mul_mx_diag !mul_diag_mx !mxE.
have entry' i p : (inv n d *m T) i p = (d 0 i)^-1 * T i p by rewrite /inv mul_diag_mx !mxE.
split=> [/(row_free_inj freeR) same i p Tip | ratios].
  have := congr1 (fun X : 'M_(n, m) => X i p) same; rewrite entry entry' => /eqP.
  by rewrite equal_ratios // => /eqP.
congr (_ *m R); apply/matrixP=> i p; rewrite entry entry'.
have [->|Tip] := eqVneq (T i p) 0; first by rewrite !(mulr0, mul0r).
by apply/eqP; rewrite equal_ratios //; apply/eqP; apply: ratios.
Qed.

(* A singular matrix has a fixed direction x, x (I - A Z) = x for every Z: no norm of I - A Z that is
   induced by a vector norm is below one.  A non-singular one has none for Z = A^-1. *)
Theorem singular_never_contracts :
  forall (F : fieldType) (n : nat) (A : 'M[F]_n),
  A \notin unitmx <-> exists2 x : 'rV[F]_n, x != 0 & forall Z : 'M[F]_n, x *m (1%:M - A *m Z) = x.
Proof.
move=> F n A; split=> [singular|[x x0 fixed]].
  have /rowV0Pn[x /sub_kermxP xA x0] : kermx A != 0 by rewrite kermx_eq0 row_free_unit.
  by exists x => // Z; rewrite mulmxBr mulmx1 mulmxA xA mul0mx subr0.
apply/negP=> unitA; move: x0; rewrite -(fixed (invmx A)) mulmxV // subrr mulmx0.
by rewrite eqxx.
Qed.
