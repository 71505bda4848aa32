(* Norm inequalities that need no square root: Schur's test (the Gram form of
   |A|_2^2 <= |A|_1 |A|_oo), the initialisation of the iteration, the softmax Jacobian, the
   normalisation of rows, and the lower bound of Eckart and Young. *)
From mathcomp Require Import all_ssreflect all_algebra ring.
From NystromProofs Require Import psd.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

Lemma sqnorm0 (R : realFieldType) n : sqnorm (0 : 'cV[R]_n) = 0.
Proof. by rewrite sqnormE big1 // => i _; rewrite mxE expr0n. Qed.

Lemma sqnorm_gt0 (R : realFieldType) n (x : 'cV[R]_n) : x != 0 -> 0 < sqnorm x.
Proof.
have sq0 i : true -> 0 <= x i 0 ^+ 2 by rewrite sqr_ge0.
move=> x0; rewrite lt_def sqnormE sumr_ge0 // andbT; apply: contra x0 => /eqP zero.
apply/eqP/matrixP => i j; rewrite ord1 mxE; apply/eqP; rewrite -sqrf_eq0; apply/eqP.
exact: (psumr_eq0P sq0 zero).
Qed.

(* Cauchy-Schwarz with non-negative weights. *)
Lemma weighted_cauchy_schwarz (R : realFieldType) n (w y : 'I_n -> R) :
  (forall i, 0 <= w i) ->
  (\sum_i w i * y i) ^+ 2 <= (\sum_i w i) * \sum_i w i * y i ^+ 2.
Proof.
move=> w0; rewrite -subr_ge0 -(pmulr_rge0 _ (ltr0Sn R 1)).
have -> : 2%:R * ((\sum_i w i) * (\sum_i w i * y i ^+ 2) - (\sum_i w i * y i) ^+ 2)
          = \sum_i \sum_j w i * w j * (y i - y j) ^+ 2.
  set S0 := \sum_i w i; set S1 := \sum_i w i * y i; set S2 := \sum_i w i * y i ^+ 2.
  have inner i : \sum_j w i * w j * (y i - y j) ^+ 2
               = w i * y i ^+ 2 * S0 + w i * y i * (- 2%:R * S1) + w i * S2.
    rewrite /S0 /S1 /S2 !mulr_sumr -!big_split /=.
    by apply: eq_bigr => j _; ring.
  rewrite (eq_bigr _ (fun i _ => inner i)) !big_split /= -!mulr_suml -/S0 -/S1 -/S2; ring.
by apply: sumr_ge0 => i _; apply: sumr_ge0 => j _; apply: mulr_ge0; [apply: mulr_ge0 | apply: sqr_ge0].
Qed.

Theorem schur_test :
  forall (R : realFieldType) (m n : nat) (A : 'M[R]_(m, n)) (r c : R),
  (forall i, \sum_j `|A i j| <= r) ->
  (forall j, \sum_i `|A i j| <= c) ->
  0 <= r ->
  forall x, sqnorm (A *m x) <= r * c * sqnorm x.
Proof.
move=> R m n A r c rows cols r0 x.
have entry i : (A *m x) i 0 ^+ 2 <= r * \sum_j `|A i j| * x j 0 ^+ 2.
  have -> : (A *m x) i 0 = \sum_j `|A i j| * (Num.sg (A i j) * x j 0).
    by rewrite mxE; apply: eq_bigr => j _; rewrite mulrA [_ * Num.sg _]mulrC -numEsg.
  apply: le_trans (weighted_cauchy_schwarz _ _) _ => [j|]; first exact: normr_ge0.
  have -> : \sum_j `|A i j| * (Num.sg (A i j) * x j 0) ^+ 2 = \sum_j `|A i j| * x j 0 ^+ 2.
    apply: eq_bigr => j _; rewrite exprMn sqr_sg; case: eqP => [->|_]; last by rewrite mul1r.
    by rewrite normr0 !mul0r.
  by apply: ler_wpmul2r (rows i); apply: sumr_ge0 => j _; rewrite mulr_ge0 ?sqr_ge0.
rewrite !sqnormE; apply: le_trans (ler_sum _ (fun i _ => entry i)) _.
rewrite -mulr_sumr exchange_big /= -mulrA; apply: ler_wpmul2l => //; rewrite mulr_sumr.
by apply: ler_sum => j _; rewrite -mulr_suml; apply: ler_wpmul2r (cols j); apply: sqr_ge0.
Qed.

(* The residual E = I - A Z of Z = A^T / (r c) satisfies 0 <= x^T E x < x^T x for every x <> 0, that is
   |E|_2 < 1 for this symmetric matrix, if and only if A is non-singular. *)
Theorem initial_contraction_iff :
  forall (R : realFieldType) (n : nat) (A : 'M[R]_n) (r c : R),
  (forall i, \sum_j `|A i j| <= r) ->
  (forall j, \sum_i `|A i j| <= c) ->
  0 < r -> 0 < c ->
  A \in unitmx <->
  (forall x, x != 0 -> 0 <= form (1%:M - A *m ((r * c)^-1 *: A^T)) x < sqnorm x).
Proof.
move=> R n A r c rows cols r0 c0.
have rc0 : 0 < r * c by rewrite mulr_gt0.
have formE x : form (1%:M - A *m ((r * c)^-1 *: A^T)) x = sqnorm x - (r * c)^-1 * sqnorm (A^T *m x).
  rewrite /form bilB -/(sqnorm x) -scalemxAr; congr (_ - _).
  by rewrite /sqnorm /form -[in RHS]bil_congruence trmxK mulmx1 /bil -scalemxAr -scalemxAl mxE.
have nonneg x : 0 <= sqnorm x - (r * c)^-1 * sqnorm (A^T *m x).
  rewrite subr_ge0 mulrC ler_pdivr_mulr // mulrC [r * c]mulrC; apply: schur_test (ltW c0) _ => i.
  - by rewrite (eq_bigr (fun j => `|A j i|)) // => j _; rewrite mxE.
  by rewrite (eq_bigr (fun j => `|A i j|)) // => j _; rewrite mxE.
split=> [unitA x x0 | contracts].
  rewrite formE nonneg /= ltr_subl_addl ltr_addr mulr_gt0 ?invr_gt0 // sqnorm_gt0 //.
  have unitAt : A^T \in unitmx by rewrite unitmx_tr.
  by apply: contra x0 => /eqP zero; rewrite -(mulKmx unitAt x) zero mulmx0.
rewrite -row_free_unit -kermx_eq0; apply/negPn/rowV0Pn => -[y /sub_kermxP yA y0].
have /contracts : y^T != 0 by rewrite trmx_eq0.
have -> : form (1%:M - A *m ((r * c)^-1 *: A^T)) y^T = sqnorm y^T.
  by rewrite formE -trmx_mul yA trmx0 sqnorm0 mulr0 subr0.
by rewrite ltxx andbF.
Qed.

(* The Jacobian of softmax at the probability vector p. *)
Definition softmax_jacobian (R : realFieldType) n (p : 'I_n -> R) : 'M[R]_n :=
  \matrix_(i, j) (p i * ((i == j)%:R - p j)).

Theorem softmax_half_lipschitz :
  forall (R : realFieldType) (n : nat) (p : 'I_n -> R),
  (forall i, 0 <= p i) ->
  \sum_i p i = 1 ->
  (forall i, \sum_j `|softmax_jacobian p i j| <= 1%:R / 2%:R)
  /\ (forall x, sqnorm (softmax_jacobian p *m x) <= (1%:R / 2%:R) ^+ 2 * sqnorm x).
Proof.
move=> R n p p0 sum1; set J := softmax_jacobian p.
have p1 i : p i <= 1 by rewrite -sum1 (bigD1 i) //= ler_addl sumr_ge0.
have rows i : \sum_j `|J i j| <= 1%:R / 2%:R.
  have -> : \sum_j `|J i j| = 2%:R * p i * (1 - p i).
    rewrite (bigD1 i) //= mxE eqxx mulr1n ger0_norm ?mulr_ge0 ?subr_ge0 //.
    rewrite (eq_bigr (fun j => p i * p j)) => [|j ji]; last first.
      by rewrite mxE eq_sym (negPf ji) sub0r mulrN normrN ger0_norm ?mulr_ge0.
    rewrite -mulr_sumr; have -> : \sum_(j | j != i) p j = 1 - p i.
      by rewrite -sum1 [in RHS](bigD1 i) //= addrAC subrr add0r.
    by ring.
  rewrite -subr_ge0; have -> : 1%:R / 2%:R - 2%:R * p i * (1 - p i) = 2%:R * (p i - 1%:R / 2%:R) ^+ 2.
    by field.
  by apply: mulr_ge0; [apply: ler0n | apply: sqr_ge0].
have symmetric i j : J i j = J j i.
  by rewrite !mxE eq_sym; have [->|_] := eqVneq j i; rewrite // !sub0r !mulrN [p i * _]mulrC.
split=> // x; rewrite expr2; apply: schur_test => [//|j|]; last by rewrite divr_ge0 ?ler0n ?ler01.
by rewrite (eq_bigr (fun i => `|J j i|)) // => i _; rewrite symmetric.
Qed.

(* Rows a and b with sums s > 0 and t: normalising them adds at most a factor two to their relative
   l1 distance delta, over 1 - delta. *)
Theorem normalisation_perturbation :
  forall (R : realFieldType) (n : nat) (a b : 'I_n -> R) (delta : R),
  (forall j, 0 <= a j) ->
  0 < \sum_j a j ->
  \sum_j `|b j - a j| <= delta * (\sum_j a j) ->
  delta < 1 ->
  \sum_j `|b j / (\sum_k b k) - a j / (\sum_k a k)| <= 2%:R * delta / (1 - delta).
Proof.
move=> R n a b delta a0 s0 close small.
set s := \sum_j a j in s0 close *; set t := \sum_j b j; set D := \sum_j `|b j - a j| in close.
have st : `|t - s| <= D by rewrite /t /s -sumrB; apply: ler_norm_sum.
have delta0 : 0 <= delta.
  by rewrite -(pmulr_lge0 _ s0); apply: le_trans close; apply: sumr_ge0.
have t_low : (1 - delta) * s <= t.
  rewrite mulrBl mul1r ler_subl_addr -ler_subl_addl; apply: le_trans close; apply: le_trans st.
  by rewrite distrC; apply: ler_norm.
have t0 : 0 < t by apply: lt_le_trans t_low; rewrite mulr_gt0 ?subr_gt0.
have entry j : `|b j / t - a j / s| <= `|b j - a j| / t + a j * `|t - s| / (s * t).
  have -> : b j / t - a j / s = (b j - a j) / t - a j * (t - s) / (s * t).
    by field; rewrite !lt0r_neq0.
  apply: le_trans (ler_norm_sub _ _) _; rewrite !normrM !normfV (gtr0_norm t0) (ger0_norm (a0 j)).
  by rewrite (gtr0_norm (mulr_gt0 s0 t0)).
apply: le_trans (ler_sum _ (fun j _ => entry j)) _.
rewrite big_split /= -!mulr_suml -/D -/s.
have -> : D / t + s * `|t - s| / (s * t) = (D + `|t - s|) / t by field; rewrite !lt0r_neq0.
rewrite ler_pdivr_mulr //; apply: le_trans (ler_add (lexx D) st) _.
have -> : D + D = 2%:R * D by ring.
rewrite -!mulrA ler_pmul2l //; apply: le_trans close _.
apply: ler_wpmul2l => //; rewrite mulrC ler_pdivl_mulr ?subr_gt0 // mulrC.
exact: t_low.
Qed.

(* The lower bound of Eckart and Young in Courant and Fischer's form: where |y V A|^2 >= s |y V|^2 on a
   space of k + 1 dimensions, no B of rank k comes closer to A than sqrt s in the 2-norm. *)
Theorem eckart_young :
  forall (R : realFieldType) (n N k : nat) (A B : 'M[R]_(n, N)) (V : 'M[R]_(k.+1, n)) (s : R),
  row_free V ->
  (forall y : 'rV_k.+1, s * sqnorm (y *m V)^T <= sqnorm (y *m V *m A)^T) ->
  (\rank B <= k)%N ->
  exists2 x : 'rV_n, x != 0 & s * sqnorm x^T <= sqnorm (x *m (A - B))^T.
Proof.
move=> R n N k A B V s freeV large low.
have /rowV0Pn[y /sub_kermxP yVB y0] : kermx (V *m B) != 0.
  rewrite kermx_eq0; apply/negP => /eqP full; move: (mxrankM_maxr V B); rewrite full.
  by move/leq_trans/(_ low); rewrite ltnn.
exists (y *m V).
  by apply: contra y0 => /eqP zero; rewrite -(row_free_inj freeV (etrans zero (esym (mul0mx _ V)))).
by rewrite mulmxBr -[y *m V *m B]mulmxA yVB subr0.
Qed.
