(* Positive semidefinite matrices over a real field: the Nystrom residual, its trace and diagonal,
   and the bounds that a positive semidefinite lift gives for an off-diagonal block. *)
From mathcomp Require Import all_ssreflect all_algebra ring.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

(* x^T K y, x^T K x, x^T x, and the i-th unit vector. *)
Definition bil (R : realFieldType) m n (x : 'cV[R]_m) (K : 'M[R]_(m, n)) (y : 'cV[R]_n) : R :=
  (x^T *m K *m y) 0 0.
Definition form (R : realFieldType) n (K : 'M[R]_n) (x : 'cV[R]_n) : R := bil x K x.
Definition psd (R : realFieldType) n (K : 'M[R]_n) : Prop := forall x, 0 <= form K x.
Definition sqnorm (R : realFieldType) n (x : 'cV[R]_n) : R := form 1%:M x.
Definition unit_vector (R : realFieldType) n (i : 'I_n) : 'cV[R]_n := delta_mx i 0.

(* The residual of the Nystrom approximation from the sketch K P, with G for the inverse of P^T K P. *)
Definition residual (R : realFieldType) n m (K : 'M[R]_n) (P : 'M[R]_(n, m)) (G : 'M[R]_m) : 'M[R]_n :=
  K - K *m (P *m G *m P^T) *m K.

Section Forms.
Variable (R : realFieldType).

Lemma bilDl m n (x y : 'cV[R]_m) (K : 'M[R]_(m, n)) z : bil (x + y) K z = bil x K z + bil y K z.
Proof. by rewrite /bil linearD !mulmxDl mxE. Qed.

Lemma bilDr m n (x : 'cV[R]_m) (K : 'M[R]_(m, n)) y z : bil x K (y + z) = bil x K y + bil x K z.
Proof. by rewrite /bil mulmxDr mxE. Qed.

Lemma bilZl m n a (x : 'cV[R]_m) (K : 'M[R]_(m, n)) z : bil (a *: x) K z = a * bil x K z.
Proof. by rewrite /bil linearZ -!scalemxAl mxE. Qed.

Lemma bilZr m n a (x : 'cV[R]_m) (K : 'M[R]_(m, n)) z : bil x K (a *: z) = a * bil x K z.
Proof. by rewrite /bil -scalemxAr mxE. Qed.

Lemma bilC m n (x : 'cV[R]_m) (K : 'M[R]_(m, n)) y : bil x K y = bil y K^T x.
Proof. by rewrite /bil -[LHS]/((_ : 'M_1) 0 0) -[_ *m y]trmxK mxE !trmx_mul trmxK mulmxA. Qed.

Lemma bilB m n (x : 'cV[R]_m) (K L : 'M[R]_(m, n)) y : bil x (K - L) y = bil x K y - bil x L y.
Proof. by rewrite /bil mulmxBr mulmxBl !mxE. Qed.

Lemma bil_congruence m n p q (x : 'cV[R]_p) (M : 'M[R]_(m, p)) (K : 'M[R]_(m, n)) (N : 'M[R]_(n, q)) y :
  bil x (M^T *m K *m N) y = bil (M *m x) K (N *m y).
Proof. by rewrite /bil trmx_mul !mulmxA. Qed.

Lemma bil_unit m n (K : 'M[R]_(m, n)) i j : bil (unit_vector R i) K (unit_vector R j) = K i j.
Proof. by rewrite /bil trmx_delta -rowE -colE !mxE. Qed.

Lemma sqnormE n (x : 'cV[R]_n) : sqnorm x = \sum_i x i 0 ^+ 2.
Proof.
by rewrite /sqnorm /form /bil mulmx1 mxE; apply: eq_bigr => i _; rewrite mxE expr2.
Qed.

Lemma bilE m n (x : 'cV[R]_m) (K : 'M[R]_(m, n)) y : bil x K y = \sum_i \sum_j x i 0 * K i j * y j 0.
Proof.
rewrite /bil mxE exchange_big; apply: eq_bigr => j _; rewrite mxE mulr_suml.
by apply: eq_bigr => i _; rewrite mxE.
Qed.

Lemma form_combination n (K : 'M[R]_n) a b x y : K^T = K ->
  form K (a *: x + b *: y) = a ^+ 2 * form K x + 2%:R * a * b * bil x K y + b ^+ 2 * form K y.
Proof.
move=> sym; rewrite /form bilDl !bilDr !bilZl !bilZr [bil y K x]bilC sym; ring.
Qed.
End Forms.

Theorem schur_complement :
  forall (R : realFieldType) (m k : nat) (W : 'M[R]_m) (B : 'M[R]_(m, k)) (D : 'M[R]_k),
  W \in unitmx ->
  block_mx W B B^T D - col_mx W B^T *m invmx W *m row_mx W B = block_mx 0 0 0 (D - B^T *m invmx W *m B).
Proof.
move=> R m k W B D unitW; rewrite mul_col_mx mul_col_row.
rewrite mulmxV // !mul1mx mulmxKV // opp_block_mx add_block_mx.
by rewrite !subrr.
Qed.

(* With H = P G P^T, a symmetric matrix with H K H = H, the residual is a congruence of K. *)
Lemma residual_congruence (R : realFieldType) n (K H : 'M[R]_n) :
  K^T = K -> H^T = H -> H *m K *m H = H ->
  K - K *m H *m K = (1%:M - H *m K)^T *m K *m (1%:M - H *m K)
  /\ K *m H *m K = (H *m K)^T *m K *m (H *m K).
Proof.
move=> symK symH reflexive.
have square : K *m H *m K *m (H *m K) = K *m H *m K by rewrite -[in RHS]reflexive !mulmxA.
rewrite [(1%:M - _)^T]linearB /= trmx1 trmx_mul symK symH; split; last by rewrite square.
by rewrite mulmxBl mul1mx mulmxBr mulmx1 mulmxBl square mulmxA subrr subr0.
Qed.

Lemma sketch_reflexive (R : realFieldType) n m (K : 'M[R]_n) (P : 'M[R]_(n, m)) (G : 'M[R]_m) :
  G^T = G -> G *m (P^T *m K *m P) *m G = G ->
  (P *m G *m P^T)^T = P *m G *m P^T /\ (P *m G *m P^T) *m K *m (P *m G *m P^T) = P *m G *m P^T.
Proof.
move=> symG reflexive; rewrite !trmx_mul trmxK symG; split; first by rewrite !mulmxA.
by rewrite -[in RHS]reflexive !mulmxA.
Qed.

Theorem residual_psd :
  forall (R : realFieldType) (n m : nat) (K : 'M[R]_n) (P : 'M[R]_(n, m)) (G : 'M[R]_m),
  psd K ->
  K^T = K ->
  G^T = G ->
  G *m (P^T *m K *m P) *m G = G ->
  psd (residual K P G) /\ psd (K - residual K P G).
Proof.
move=> R n m K P G psdK symK symG reflexive.
have [symH reflexiveH] := sketch_reflexive symG reflexive.
have [above below] := residual_congruence symK symH reflexiveH.
by split=> x; rewrite /residual ?subKr ?above ?below /form bil_congruence; apply: psdK.
Qed.

(* Interpolation: the residual vanishes on the sketch. *)
Lemma residual_interpolates :
  forall (R : realFieldType) (n m : nat) (K : 'M[R]_n) (P : 'M[R]_(n, m)),
  P^T *m K *m P \in unitmx ->
  residual K P (invmx (P^T *m K *m P)) *m P = 0.
Proof.
move=> R n m K P unitW; rewrite /residual mulmxBl.
have -> : K *m (P *m invmx (P^T *m K *m P) *m P^T) *m K *m P
          = K *m P *m (invmx (P^T *m K *m P) *m (P^T *m K *m P)) by rewrite !mulmxA.
by rewrite mulVmx // mulmx1 subrr.
Qed.

(* z = x_j e_i - x_i e_j: the two-by-two minors, without square roots. *)
Lemma psd_pair (R : realFieldType) n (K : 'M[R]_n) (i j : 'I_n) (a b : R) :
  psd K -> K^T = K -> 2%:R * a * b * K i j <= a ^+ 2 * K i i + b ^+ 2 * K j j.
Proof.
move=> psdK symK; rewrite -subr_ge0.
have -> : a ^+ 2 * K i i + b ^+ 2 * K j j - 2%:R * a * b * K i j
          = form K (a *: unit_vector R i + (- b) *: unit_vector R j).
  by rewrite form_combination // /form !bil_unit; ring.
exact: psdK.
Qed.

Lemma psd_diag (R : realFieldType) n (K : 'M[R]_n) i : psd K -> 0 <= K i i.
Proof. by move/(_ (unit_vector R i)); rewrite /form bil_unit. Qed.

Theorem psd_minor :
  forall (R : realFieldType) (n : nat) (K : 'M[R]_n) (i j : 'I_n),
  psd K -> K^T = K ->
  K i j ^+ 2 <= K i i * K j j.
Proof.
move=> R n K i j psdK symK; have [Kjj|Kjj0] := eqVneq (K j j) 0.
  have := psd_pair i j 1 ((K i i + 1) / (2%:R * K i j)) psdK symK.
  rewrite Kjj !mulr0 addr0 expr1n !mul1r mulr1; have [->|Kij] := eqVneq (K i j) 0; first by rewrite expr0n.
  have -> : 2%:R * ((K i i + 1) / (2%:R * K i j)) * K i j = K i i + 1.
    by field.
  by rewrite ger_addl ler10.
have pos : 0 < K j j by rewrite lt_def Kjj0 psd_diag.
have := psd_pair i j (K j j) (K i j) psdK symK.
rewrite -subr_ge0 => le; rewrite -subr_ge0 -(pmulr_rge0 _ pos); apply: le_trans le _.
by rewrite le_eqVlt; apply/orP; left; apply/eqP; ring.
Qed.

(* The largest diagonal entry and the trace enclose the largest eigenvalue, here the least l with
   x^T K x <= l x^T x. *)
Theorem form_le_trace :
  forall (R : realFieldType) (n : nat) (K : 'M[R]_n) (x : 'cV[R]_n),
  psd K -> K^T = K ->
  form K x <= \tr K * sqnorm x.
Proof.
move=> R n K x psdK symK; rewrite -(ler_pmul2l (ltr0Sn R 1)).
have -> : 2%:R * form K x = \sum_i \sum_j 2%:R * x i 0 * x j 0 * K i j.
  rewrite /form bilE mulr_sumr; apply: eq_bigr => i _; rewrite mulr_sumr; apply: eq_bigr => j _; ring.
have -> : 2%:R * (\tr K * sqnorm x) = \sum_i \sum_j (x j 0 ^+ 2 * K i i + x i 0 ^+ 2 * K j j).
  transitivity (\tr K * sqnorm x + \tr K * sqnorm x); first by ring.
  rewrite sqnormE /mxtrace [in RHS](eq_bigr _ (fun i _ => big_split _ _ _ _ _)) big_split /=; congr (_ + _).
    by rewrite mulr_suml; apply: eq_bigr => i _; rewrite mulr_sumr; apply: eq_bigr => j _; rewrite mulrC.
  by rewrite mulrC mulr_suml; apply: eq_bigr => i _; rewrite mulr_sumr.
apply: ler_sum => i _; apply: ler_sum => j _.
have := psd_pair i j (x j 0) (x i 0) psdK symK.
by rewrite [2%:R * x j 0 * _]mulrAC.
Qed.

Theorem diagonal_le_form :
  forall (R : realFieldType) (n : nat) (K : 'M[R]_n) (l : R) (i : 'I_n),
  (forall x, form K x <= l * sqnorm x) ->
  K i i <= l.
Proof.
move=> R n K l i /(_ (unit_vector R i)).
by rewrite /sqnorm /form !bil_unit !mxE eqxx mulr1.
Qed.

(* The lift: [[X, B], [B^T, Y]] is psd.  Its off-diagonal block B in the three norms. *)
Theorem lift_half_lambda :
  forall (R : realFieldType) (n k : nat) (X : 'M[R]_n) (B : 'M[R]_(n, k)) (Y : 'M[R]_k) (l : R),
  psd (block_mx X B B^T Y) ->
  (forall z, form (block_mx X B B^T Y) z <= l * sqnorm z) ->
  forall x y, 4%:R * bil x B y <= l * (sqnorm x + sqnorm y).
Proof.
move=> R n k X B Y l lift bounded x y.
have add00 (M N : 'M[R]_1) : (M + N) 0 0 = M 0 0 + N 0 0 by rewrite mxE.
have split z : form (block_mx X B B^T Y) (col_mx x z) = form X x + 2%:R * bil x B z + form Y z.
  rewrite /form /bil tr_col_mx mul_row_block mul_row_col !mulmxDl !add00.
  have -> : (z^T *m B^T *m x) 0 0 = (x^T *m B *m z) 0 0 by rewrite -/(bil z _ x) bilC trmxK.
  by rewrite mulr_natl mulr2n !addrA.
have norm z : sqnorm (col_mx x z) = sqnorm x + sqnorm z.
  by rewrite /sqnorm /form /bil !mulmx1 tr_col_mx mul_row_col add00.
have := lift (col_mx x (- 1 *: y)); have := bounded (col_mx x y).
rewrite !split norm bilZr /form !bilZl !bilZr -/(form X x) -/(form Y y) => upper lower.
have -> : 4%:R * bil x B y = (form X x + 2%:R * bil x B y + form Y y)
  - (form X x + 2%:R * (- 1 * bil x B y) + - 1 * (- 1 * form Y y)) by ring.
by apply: le_trans upper; rewrite ger_addl oppr_le0.
Qed.

Theorem lift_frobenius :
  forall (R : realFieldType) (n k : nat) (X : 'M[R]_n) (B : 'M[R]_(n, k)) (Y : 'M[R]_k),
  psd (block_mx X B B^T Y) ->
  X^T = X ->
  Y^T = Y ->
  \sum_i \sum_j B i j ^+ 2 <= \tr X * \tr Y.
Proof.
move=> R n k X B Y lift symX symY.
rewrite /mxtrace mulr_suml; apply: ler_sum => i _; rewrite mulr_sumr; apply: ler_sum => j _.
have sym : (block_mx X B B^T Y)^T = block_mx X B B^T Y by rewrite tr_block_mx symX symY trmxK.
by have := psd_minor (lshift k i) (rshift n j) lift sym; rewrite block_mxEur block_mxEul block_mxEdr.
Qed.

(* Quantisation: replacing token i by any combination P c of landmarks bounds its residual. *)
Theorem quantisation :
  forall (R : realFieldType) (n m : nat) (K : 'M[R]_n) (P : 'M[R]_(n, m)) (i : 'I_n) (c : 'cV[R]_m),
  psd K ->
  K^T = K ->
  P^T *m K *m P \in unitmx ->
  residual K P (invmx (P^T *m K *m P)) i i <= form K (unit_vector R i - P *m c).
Proof.
move=> R n m K P i c psdK symK unitW; set G := invmx _; set S := residual K P G.
have symW : (P^T *m K *m P)^T = P^T *m K *m P by rewrite !trmx_mul trmxK symK mulmxA.
have symG : G^T = G by rewrite /G trmx_inv symW.
have reflexive : G *m (P^T *m K *m P) *m G = G by rewrite mulVmx // mul1mx.
have [_ below] := residual_psd psdK symK symG reflexive.
have SP : S *m P = 0 by apply: residual_interpolates.
have symS : S^T = S.
  by rewrite /S /residual linearB /= !trmx_mul trmxK symK symG !mulmxA.
have -> : S i i = form S (unit_vector R i - P *m c).
  rewrite -{1}(bil_unit S) /form bilDl !bilDr.
  have zero x : bil x S (- (P *m c)) = 0.
    by rewrite /bil mulmxN -!mulmxA [S *m _]mulmxA SP mul0mx mulmx0 oppr0 mxE.
  by rewrite !zero [bil (- _) _ _]bilC symS zero !addr0.
by rewrite -subr_ge0 /form -bilB -/(form _ _) below.
Qed.

(* One step of randomly pivoted Cholesky: pivot i with probability K_ii / tr K. *)
Theorem random_pivot_expectation :
  forall (R : realFieldType) (n : nat) (K : 'M[R]_n),
  psd K ->
  K^T = K ->
  \tr K != 0 ->
  \sum_i (K i i / \tr K) *: (K - (K i i)^-1 *: (col i K *m row i K)) = K - (\tr K)^-1 *: (K *m K).
Proof.
move=> R n K psdK symK trace.
have square : K *m K = \sum_i col i K *m row i K.
  by apply/matrixP => a b; rewrite summxE mxE; apply: eq_bigr => i _; rewrite mxE big_ord1 !mxE.
transitivity (\sum_i ((K i i / \tr K) *: K - (\tr K)^-1 *: (col i K *m row i K))).
  apply: eq_bigr => i _; rewrite scalerBr scalerA; congr (_ - _).
  have [Kii|Kii] := eqVneq (K i i) 0; last by rewrite mulrAC mulfV // mul1r.
  have -> : col i K = 0.
    apply/matrixP => a b; rewrite !mxE; apply/eqP; rewrite -sqrf_eq0 eq_le sqr_ge0 andbT.
    by have := psd_minor a i psdK symK; rewrite Kii mulr0.
  by rewrite mul0mx !scaler0.
rewrite sumrB -scaler_suml -mulr_suml -/(\tr K) mulfV // scale1r.
by rewrite -scaler_sumr -square.
Qed.
