(* Lemma 1 with the hypothesis that it needs: the start lies in the range of the pseudoinverse.

   V is a reflexive inverse of A (A V A = A, V A V = V), for instance A^+.  The range condition is
   V A Z = Z and Z A V = Z; for V = A^+ it says R(Z) in R(A^T) and N(A^T) in N(Z). *)
From mathcomp Require Import all_ssreflect all_algebra.
From NystromProofs Require Import residual.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

Definition in_range (F : fieldType) m n (A : 'M[F]_(m, n)) (V Z : 'M[F]_(n, m)) : Prop :=
  V *m A *m Z = Z /\ Z *m A *m V = Z.

Lemma mxpow_split (F : fieldType) m (Q E : 'M[F]_m) k :
  Q *m Q = Q -> Q *m E = 0 -> E *m Q = 0 -> mxpow (Q + E) k.+1 = Q + mxpow E k.+1.
Proof.
move=> idem QE EQ; elim: k => [|k IH]; first by rewrite /mxpow /= !mulmx1.
have QEk : Q *m mxpow E k.+1 = 0 by rewrite /mxpow iterS mulmxA QE mul0mx.
by rewrite [LHS]/mxpow iterS -/(mxpow _ k.+1) IH mulmxDl !mulmxDr idem EQ QEk add0r addr0.
Qed.

Theorem range_is_kept :
  forall (F : fieldType) (m n : nat) (A : 'M[F]_(m, n)) (V Z : 'M[F]_(n, m)),
  in_range A V Z ->
  in_range A V (razavi A Z).
Proof.
move=> F m n A V Z [left right]; rewrite /in_range /razavi.
have keep k (X : 'M[F]_m) : Z *m X *m A *m V = Z *m X ->
    Z *m (k%:M - A *m Z *m X) *m A *m V = Z *m (k%:M - A *m Z *m X).
  move=> ZX; rewrite mulmxBr mul_mx_scalar !mulmxBl -!scalemxAl right; congr (_ - _).
  have -> : Z *m (A *m Z *m X) = Z *m A *m (Z *m X) by rewrite !mulmxA.
  by rewrite -[RHS]/(Z *m A *m (Z *m X)) -{2}ZX !mulmxA.
split; rewrite -?scalemxAr -?scalemxAl; congr (_ *: _); first by rewrite mulmxA left.
have last := keep 7%:R 1%:M; rewrite !mulmx1 in last.
by rewrite !(keep, last).
Qed.

(* Order three with its constants: with E = A V - A Z, the error is V - Z = V E. *)
Theorem lemma1_step :
  forall (F : fieldType) (m n : nat) (A : 'M[F]_(m, n)) (V Z : 'M[F]_(n, m)),
  2%:R != 0 :> F ->
  A *m V *m A = A ->
  V *m A *m V = V ->
  in_range A V Z ->
  let E := A *m V - A *m Z in
  V - Z = V *m E /\
  A *m V - A *m razavi A Z = (3%:R / 4%:R) *: mxpow E 3 + (1%:R / 4%:R) *: mxpow E 4.
Proof.
move=> F m n A V Z two inner outer [left right] E.
split; first by rewrite /E mulmxBr !mulmxA outer left.
pose Q := 1%:M - A *m V.
have idem : Q *m Q = Q.
  by rewrite /Q mulmxBr mulmx1 mulmxBl mul1mx !mulmxA inner subrr subr0.
have QE : Q *m E = 0.
  by rewrite /Q /E mulmxBl mul1mx !mulmxBr !mulmxA inner subrr.
have EQ : E *m Q = 0.
  have AZAV : A *m Z *m (A *m V) = A *m Z by rewrite -{2}right !mulmxA.
  by rewrite /Q /E mulmxBr mulmx1 mulmxBl AZAV !mulmxA inner subrr.
have quarters X Y Q' : (3%:R / 4%:R) *: (Q' + X) + (1%:R / 4%:R) *: (Q' + Y) - Q'
    = (3%:R / 4%:R) *: X + (1%:R / 4%:R) *: Y :> 'M[F]_m.
  have four : 4%:R != 0 :> F by rewrite (natrM _ 2 2) mulf_neq0.
  by rewrite !scalerDr addrACA -scalerDl -mulrDl -natrD divff // scale1r addrAC subrr add0r.
have split : 1%:M - A *m Z = Q + E by rewrite /Q /E addrA subrK.
have := razavi_residual A Z two; rewrite /= split !(mxpow_split _ idem QE EQ) => step.
have -> : A *m V - A *m razavi A Z = (1%:M - A *m razavi A Z) - Q.
  by rewrite /Q opprB [RHS]addrC addrA subrK.
by rewrite step quarters.
Qed.

(* Lemma 1 itself: in any submultiplicative norm N with N E_0 <= 1, step k has N E_k <= (N E_0)^(3^k),
   and the error of the k-th iterate is V E_k. *)
Theorem lemma1_convergence :
  forall (R : realFieldType) (m n : nat) (A : 'M[R]_(m, n)) (V Z : 'M[R]_(n, m)) (N : 'M[R]_m -> R),
  A *m V *m A = A ->
  V *m A *m V = V ->
  in_range A V Z ->
  (forall X, 0 <= N X) ->
  (forall X Y, N (X + Y) <= N X + N Y) ->
  (forall a X, N (a *: X) = `|a| * N X) ->
  (forall X Y, N (X *m Y) <= N X * N Y) ->
  N (A *m V - A *m Z) <= 1 ->
  forall k, let Zk := iter k (razavi A) Z in
  V - Zk = V *m (A *m V - A *m Zk) /\ N (A *m V - A *m Zk) <= N (A *m V - A *m Z) ^+ (3 ^ k).
Proof.
move=> R m n A V Z N inner outer range N0 triangle homogeneous submult small k Zk.
have two : 2%:R != 0 :> R by rewrite pnatr_eq0.
have kept : in_range A V Zk by rewrite /Zk; elim: (k) => // j IH; rewrite iterS; apply: range_is_kept.
split; first by have [] := lemma1_step two inner outer kept.
have decay Y : in_range A V Y -> N (A *m V - A *m Y) <= 1 ->
    N (A *m V - A *m razavi A Y) <= N (A *m V - A *m Y) ^+ 3.
  move=> rangeY; have [_ ->] := lemma1_step two inner outer rangeY; set E := A *m V - A *m Y => E1.
  have cube : N (mxpow E 3) <= N E ^+ 3.
    rewrite /mxpow /= mulmx1 !exprS expr0 mulr1; apply: le_trans (submult _ _) _.
    by apply: ler_wpmul2l => //; apply: submult.
  have fourth : N (mxpow E 4) <= N E ^+ 3.
    rewrite -[mxpow E 4]/(E *m mxpow E 3); apply: le_trans (submult _ _) _.
    apply: le_trans (ler_wpmul2l (N0 _) cube) _.
    by rewrite -[leRHS]mul1r; apply: ler_wpmul2r; rewrite ?exprn_ge0.
  apply: le_trans (triangle _ _) _; rewrite !homogeneous !ger0_norm ?divr_ge0 ?ler0n //.
  apply: le_trans (ler_add (ler_wpmul2l _ cube) (ler_wpmul2l _ fourth)) _; rewrite ?divr_ge0 ?ler0n //.
  by rewrite -mulrDl -mulrDl -natrD divff ?mul1r // pnatr_eq0.
have all j : in_range A V (iter j (razavi A) Z)
    /\ N (A *m V - A *m iter j (razavi A) Z) <= N (A *m V - A *m Z) ^+ (3 ^ j).
  elim: j => [|j [rangej IH]]; first by rewrite expr1.
  split; first by rewrite iterS; apply: range_is_kept.
  have j1 : N (A *m V - A *m iter j (razavi A) Z) <= 1 by apply: le_trans IH _; apply: exprn_ile1.
  rewrite iterS expnSr exprM; apply: le_trans (decay _ rangej j1) _.
  by apply: ler_expn2r; rewrite ?nnegrE ?exprn_ge0.
by have [_] := all k.
Qed.
