(* What a verified pseudoinverse rests on: how far Z is from A^+ by residuals alone, and the pseudoinverse of
   a compression.  sqfro is the square of the Frobenius norm. *)
From mathcomp Require Import all_ssreflect all_algebra.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

Definition sqfro (R : realFieldType) m n (X : 'M[R]_(m, n)) : R := \tr (X^T *m X).

(* For A of full row rank, G its pseudoinverse and R = I - A Z: the error of Z splits into a part along the rows
   of A, which R bounds, and one beside them, which no choice of W changes; their squares add. *)
Theorem pseudoinverse_error :
  forall (R : realFieldType) (m n : nat) (A : 'M[R]_(m, n)) (G Z : 'M[R]_(n, m)) (W : 'M[R]_m),
  A *m G = 1%:M ->
  (G *m A)^T = G *m A ->
  let E := 1%:M - A *m Z in
  let along := G *m E in
  let beside := (1%:M - G *m A) *m (Z - A^T *m W) in
  [/\ G - Z = along - beside,
      sqfro (G - Z) = sqfro along + sqfro beside &
      along = G *m A *m (Z *m E) + along *m E].
Proof.
move=> R m n A G Z W AG sym E along beside.
have noA : (1%:M - G *m A) *m A^T = 0.
  by rewrite mulmxBl mul1mx -[X in _ - X *m _]sym -trmx_mul mulmxA AG mul1mx subrr.
have besideE : beside = (1%:M - G *m A) *m Z.
  by rewrite /beside mulmxBr [X in _ - X]mulmxA noA mul0mx subr0.
have split : G - Z = along - beside.
  rewrite besideE /along /E mulmxBr mulmx1 mulmxBl mul1mx opprB addrA -mulmxA.
  by rewrite [G - _ + _]subrK.
have orth : along^T *m beside = 0.
  rewrite besideE mulmxA /along trmx_mul -[E^T *m G^T *m _]mulmxA.
  have -> : G^T *m (1%:M - G *m A) = 0.
    apply: trmx_inj; rewrite trmx_mul trmx0 trmxK linearB /= trmx1 sym mulmxBl mul1mx -mulmxA AG mulmx1.
    by rewrite subrr.
  by rewrite mulmx0 mul0mx.
split=> //.
  rewrite split /sqfro; have -> : (along - beside)^T = along^T - beside^T by apply: linearB.
  rewrite mulmxBl !mulmxBr orth.
  have -> : beside^T *m along = 0 by rewrite -[LHS]trmxK trmx_mul trmxK orth trmx0.
  by rewrite subr0 sub0r opprK; apply: linearD.
have whole : A *m Z + E = 1%:M by rewrite /E addrC subrK.
by rewrite mulmxA -[G *m A *m Z]mulmxA -mulmxDl -mulmxDr whole mulmx1.
Qed.

(* So a residual below one bounds the part along the rows, in any norm that projections do not increase. *)
Theorem contraction_bound :
  forall (R : realFieldType) (m n : nat) (N : 'M[R]_(n, m) -> R) (A : 'M[R]_(m, n)) (G Z : 'M[R]_(n, m)) (rho : R),
  (forall X Y, N (X + Y) <= N X + N Y) ->
  (forall X, N (G *m A *m X) <= N X) ->
  (forall X, N (X *m (1%:M - A *m Z)) <= N X * rho) ->
  rho < 1 ->
  N (G *m (1%:M - A *m Z)) <= N (Z *m (1%:M - A *m Z)) / (1 - rho).
Proof.
move=> R m n N A G Z rho triangle project contract small.
set E := 1%:M - A *m Z.
have along : G *m E = G *m A *m (Z *m E) + G *m E *m E.
  have whole : A *m Z + E = 1%:M by rewrite /E addrC subrK.
  by rewrite mulmxA -[G *m A *m Z]mulmxA -mulmxDl -mulmxDr whole mulmx1.
rewrite ler_pdivl_mulr ?subr_gt0 // mulrBr mulr1 ler_subl_addr {1}along.
apply: le_trans (triangle _ _) _; apply: ler_add; [exact: project | exact: contract].
Qed.

Lemma compression (R : fieldType) m n r (A : 'M[R]_(m, n)) (U : 'M[R]_(m, r)) (V : 'M[R]_(n, r))
    (X Y K : 'M[R]_r) (P : 'M[R]_m) (Q : 'M[R]_n) :
  P = U *m X *m U^T -> Q = V *m Y *m V^T -> X *m (U^T *m U) = 1%:M -> (U^T *m U) *m X = 1%:M ->
  Y *m (V^T *m V) = 1%:M -> (U^T *m A *m V) *m K = 1%:M -> K *m (U^T *m A *m V) = 1%:M ->
  let M := P *m A *m Q in
  let G := V *m K *m U^T in
  [/\ M *m G = P, G *m M = Q, M *m G *m M = M & G *m M *m G = G].
Proof.
move=> defP defQ XU UX YV CK KC M G.
have QV : Q *m V = V by rewrite defQ -!mulmxA YV mulmx1.
have UP : U^T *m P = U^T by rewrite defP !mulmxA UX mul1mx.
have PP : P *m P = P by rewrite {1}defP -mulmxA UP -defP.
have MG : M *m G = P.
  rewrite /M /G -!mulmxA [Q *m (V *m _)]mulmxA QV defP -!mulmxA; congr (_ *m (_ *m _)).
  by rewrite !mulmxA CK mul1mx.
have GM : G *m M = Q.
  rewrite /M /G -!mulmxA [U^T *m (P *m _)]mulmxA UP defQ -!mulmxA; congr (_ *m _).
  rewrite (_ : U^T *m (A *m (V *m (Y *m V^T))) = (U^T *m A *m V) *m (Y *m V^T)); last by rewrite !mulmxA.
  by rewrite mulmxA KC mul1mx.
split=> //; first by rewrite MG /M !mulmxA PP.
by rewrite GM /G !mulmxA QV.
Qed.

(* U and V need not be orthonormal: V (U^T A V)^-1 U^T is the pseudoinverse of A between the projectors on their
   columns. *)
Theorem compression_pseudoinverse :
  forall (R : fieldType) (m n r : nat) (A : 'M[R]_(m, n)) (U : 'M[R]_(m, r)) (V : 'M[R]_(n, r)),
  U^T *m U \in unitmx ->
  V^T *m V \in unitmx ->
  U^T *m A *m V \in unitmx ->
  let P := U *m invmx (U^T *m U) *m U^T in
  let Q := V *m invmx (V^T *m V) *m V^T in
  let M := P *m A *m Q in
  let G := V *m invmx (U^T *m A *m V) *m U^T in
  [/\ M *m G = P, G *m M = Q, M *m G *m M = M & G *m M *m G = G].
Proof.
move=> R m n r A U V unitU unitV unitC P Q M G.
by apply: (compression (erefl P) (erefl Q)); rewrite ?mulmxV ?mulVmx.
Qed.
