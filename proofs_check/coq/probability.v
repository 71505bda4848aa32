(* Differences of probability vectors: their length by their total variation, the total variation by
   the range of the entries' ratios, what an exact near field leaves, and Jensen's inequality for
   any function above its tangents (exp is one), by which tangents bound sums of exponentials. *)
From mathcomp Require Import all_ssreflect all_algebra ring.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

Theorem zero_sum_length :
  forall (R : realFieldType) (n : nat) (d : 'I_n -> R),
  \sum_i d i = 0 ->
  2%:R * (\sum_i d i ^+ 2) <= (\sum_i `|d i|) ^+ 2.
Proof.
move=> R n d zero.
have half i : 2%:R * `|d i| <= \sum_j `|d j|.
  have others : `|d i| <= \sum_(j | j != i) `|d j|.
    have -> : d i = - \sum_(j | j != i) d j.
      by apply/eqP; rewrite -subr_eq0 opprK; move: zero; rewrite (bigD1 i) //= => ->.
    by rewrite normrN; exact: ler_norm_sum.
  rewrite (bigD1 i) //= mulr_natl mulr2n; exact: ler_add.
rewrite mulr_sumr [X in _ <= X]expr2 mulr_suml; apply: ler_sum => i _.
have -> : 2%:R * d i ^+ 2 = `|d i| * (2%:R * `|d i|) by rewrite -real_normK ?num_real // expr2 mulrCA.
exact: ler_wpmul2l (normr_ge0 _) _ _ (half i).
Qed.

Theorem rows_within_sqrt2 :
  forall (R : realFieldType) (n : nat) (p q : 'I_n -> R),
  (forall i, 0 <= p i) ->
  (forall i, 0 <= q i) ->
  \sum_i p i = 1 ->
  \sum_i q i = 1 ->
  \sum_i (p i - q i) ^+ 2 <= 2%:R.
Proof.
move=> R n p q p0 q0 p1 q1.
have le1 (r : 'I_n -> R) : (forall i, 0 <= r i) -> \sum_i r i = 1 -> forall i, r i <= 1.
  by move=> r0 <- i; rewrite (bigD1 i) //= ler_addl; apply: sumr_ge0.
have -> : 2%:R = \sum_i (p i + q i) :> R by rewrite big_split /= p1 q1.
apply: ler_sum => i _; apply: (@le_trans _ _ (p i ^+ 2 + q i ^+ 2)).
  have -> : (p i - q i) ^+ 2 = p i ^+ 2 + q i ^+ 2 - 2%:R * (p i * q i) by ring.
  by rewrite ler_subl_addr ler_addl mulr_ge0 ?ler0n // mulr_ge0.
by apply: ler_add; rewrite expr2 ler_pimulr // le1.
Qed.

Theorem ratio_variation :
  forall (R : realFieldType) (n : nat) (p q : 'I_n -> R) (a u : R),
  \sum_i p i = 1 ->
  \sum_i q i = 1 ->
  (forall i, a * q i <= p i) ->
  (forall i, p i <= u ^+ 2 * a * q i) ->
  1 < u ->
  (u + 1) * (\sum_i `|p i - q i|) <= 2%:R * (u - 1).
Proof.
move=> R n p q a u p1 q1 low high u1.
set b := u ^+ 2 * a in high *.
have a1 : a <= 1 by rewrite -p1 -[a]mulr1 -[in X in X <= _]q1 mulr_sumr; apply: ler_sum => i _.
have b1 : 1 <= b by rewrite -[in X in X <= _]p1 -[b]mulr1 -q1 mulr_sumr; apply: ler_sum => i _.
have point i : (b - a) * `|p i - q i| <= (b * q i - p i) * (1 - a) + (p i - a * q i) * (b - 1).
  case: (lerP 0 (p i - q i)) => [pos | /ltW neg].
    rewrite -subr_ge0 ger0_norm //.
    have -> : (b * q i - p i) * (1 - a) + (p i - a * q i) * (b - 1) - (b - a) * (p i - q i)
            = 2%:R * ((1 - a) * (b * q i - p i)) by ring.
    by rewrite mulr_ge0 ?ler0n // mulr_ge0 // subr_ge0.
  rewrite -subr_ge0 ler0_norm //.
  have -> : (b * q i - p i) * (1 - a) + (p i - a * q i) * (b - 1) - (b - a) * - (p i - q i)
          = 2%:R * ((b - 1) * (p i - a * q i)) by ring.
  by rewrite mulr_ge0 ?ler0n // mulr_ge0 // subr_ge0.
have total : (b - a) * (\sum_i `|p i - q i|) <= 2%:R * ((b - 1) * (1 - a)).
  rewrite mulr_sumr; apply: le_trans (ler_sum _ (fun i _ => point i)) _.
  rewrite big_split /= -!mulr_suml !big_split /= !sumrN -!mulr_sumr p1 q1.
  by rewrite le_eqVlt; apply/orP; left; apply/eqP; ring.
have u0 : 0 < u - 1 by rewrite subr_gt0.
have a0 : 0 < a.
  have u2 : 0 < u ^+ 2 by rewrite exprn_gt0 // (lt_trans ltr01).
  by rewrite -(pmulr_rgt0 _ u2) (lt_le_trans ltr01).
rewrite -(ler_pmul2l a0) -(ler_pmul2l u0); set S := \sum_i _ in total *.
have -> : (u - 1) * (a * ((u + 1) * S)) = (b - a) * S by rewrite /b; ring.
apply: le_trans total _; rewrite -subr_ge0.
have -> : (u - 1) * (a * (2%:R * (u - 1))) - 2%:R * ((b - 1) * (1 - a)) = 2%:R * (u * a - 1) ^+ 2.
  by rewrite /b; ring.
by rewrite mulr_ge0 ?ler0n ?sqr_ge0.
Qed.

Theorem near_field_variation :
  forall (R : realFieldType) (n : nat) (near : pred 'I_n) (p q : 'I_n -> R) (c : R),
  (forall i, 0 <= p i) ->
  (forall i, ~~ near i -> 0 <= q i) ->
  \sum_i p i = 1 ->
  \sum_i q i = 1 ->
  (forall i, near i -> q i = c * p i) ->
  \sum_i `|p i - q i| <= 2%:R * Num.max (\sum_(i | ~~ near i) p i) (\sum_(i | ~~ near i) q i).
Proof.
move=> R n near p q c p0 q0 p1 q1 near_q.
set f := \sum_(i | ~~ near i) p i; set g := \sum_(i | ~~ near i) q i.
have same : \sum_(i | near i) p i - \sum_(i | near i) q i = g - f.
  have pS : \sum_(i | near i) p i + f = 1 by rewrite -p1 [in RHS](bigID near).
  have qS : \sum_(i | near i) q i + g = 1 by rewrite -q1 [in RHS](bigID near).
  have pP : \sum_(i | near i) p i = 1 - f by rewrite -pS addrK.
  have qP : \sum_(i | near i) q i = 1 - g by rewrite -qS addrK.
  by rewrite pP qP; ring.
have inside : \sum_(i | near i) `|p i - q i| = `|g - f|.
  rewrite -same -sumrB.
  have factor i : near i -> p i - q i = (1 - c) * p i by move=> /near_q ->; ring.
  rewrite (eq_bigr (fun i => `|1 - c| * p i)).
    by rewrite -mulr_sumr (eq_bigr _ factor) -mulr_sumr normrM [`|\sum_(i | _) _|]ger0_norm ?sumr_ge0.
  by move=> i /factor ->; rewrite normrM [`|p i|]ger0_norm.
have outside : \sum_(i | ~~ near i) `|p i - q i| <= f + g.
  rewrite -big_split /=; apply: ler_sum => i far.
  by apply: le_trans (ler_norm_sub _ _) _; rewrite !ger0_norm ?q0.
rewrite (bigID near) /= inside; apply: le_trans (ler_add (lexx _) outside) _.
by case: (lerP f g) => _; rewrite le_eqVlt; apply/orP; left; apply/eqP; ring.
Qed.

Theorem tangent_below_sum :
  forall (R : realFieldType) (n : nat) (e : R -> R) (w x : 'I_n -> R) (m : R),
  (forall s t, e s * (1 + (t - s)) <= e t) ->
  (forall i, 0 <= w i) ->
  \sum_i w i * x i = (\sum_i w i) * m ->
  (\sum_i w i) * e m <= \sum_i w i * e (x i).
Proof.
move=> R n e w x m above w0 mean.
apply: (@le_trans _ _ (\sum_i w i * (e m * (1 + (x i - m))))); last first.
  by apply: ler_sum => i _; apply: ler_wpmul2l.
have -> : \sum_i w i * (e m * (1 + (x i - m))) = e m * ((\sum_i w i) * (1 - m) + \sum_i w i * x i).
  rewrite mulrDr mulr_suml [e m * _]mulr_sumr [e m * (\sum_i _)]mulr_sumr -big_split /=.
  by apply: eq_bigr => i _; ring.
by rewrite mean le_eqVlt; apply/orP; left; apply/eqP; ring.
Qed.
