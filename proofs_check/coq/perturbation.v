(* How far a step takes an error: Chebyshev polynomials of what is not symmetric, and the recursion of a
   schedule.  In any ring with a submultiplicative norm N, such as matrices with the 2-norm. *)
From mathcomp Require Import all_ssreflect all_algebra ring.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

(* First and second kind at an element of any ring. *)
Fixpoint first_kind (A : ringType) (n : nat) (x : A) : A :=
  if n isn't n1.+1 then 1 else
  if n1 isn't n2.+1 then x else 2%:R * x * first_kind n1 x - first_kind n2 x.
Fixpoint second_kind (A : ringType) (n : nat) (x : A) : A :=
  if n isn't n1.+1 then 1 else
  if n1 isn't n2.+1 then 2%:R * x else 2%:R * x * second_kind n1 x - second_kind n2 x.

Definition submultiplicative (R : realFieldType) (A : ringType) (N : A -> R) : Prop :=
  [/\ forall x, 0 <= N x, forall x y, N (x + y) <= N x + N y, forall x, N (- x) = N x &
      forall x y, N (x * y) <= N x * N y].

Section Recurrence.
Variable A : ringType.

Lemma two_by_two (P : nat -> Prop) : P 0%N -> P 1%N -> (forall n, P n -> P n.+1 -> P n.+2) -> forall n, P n.
Proof.
move=> P0 P1 step n; suff: P n /\ P n.+1 by case.
by elim: n => // n [Pn Pn1]; split=> //; apply: step.
Qed.

(* D_(n+2) = 2 y D_(n+1) - D_n + g_(n+1) from D_0 = 0, D_1 = g_0 is solved by the second kind. *)
Lemma solved (y : A) (D g : nat -> A) : D 0%N = 0 -> D 1%N = g 0%N ->
  (forall n, D n.+2 = 2%:R * y * D n.+1 - D n + g n.+1) ->
  forall n, D n = \sum_(j < n) second_kind (n.-1 - j) y * g j.
Proof.
move=> D0 D1 DS; elim/two_by_two => [||n IH0 IH1]; first by rewrite big_ord0.
  by rewrite big_ord_recl big_ord0 addr0 mul1r.
rewrite DS IH1 IH0 big_ord_recr [in RHS]big_ord_recr [in RHS]big_ord_recr /= !subnn !mul1r.
congr (_ + _); rewrite subSnn mulrDr addrAC; congr (_ + _); rewrite mulr_sumr -sumrB; apply: eq_bigr => j _.
have [k -> kS] : exists2 k, (n.-1 - j)%N = k & (n - j)%N = k.+1.
  exists (n.-1 - j)%N => //; have jn := ltn_ord j; have n0 := leq_ltn_trans (leq0n j) jn.
  by rewrite -subSn ?prednK // -ltnS prednK.
by rewrite subSn ?(ltnW (ltn_ord j)) // kS /= mulrBl !mulrA.
Qed.

Lemma regroup (p b q e r : A) : p - b - (q - e) = p - (q + r) - (b - e) + r.
Proof.
rewrite [RHS]addrAC [- (q + r)]opprD [p + (- q - r)]addrA subrK !opprB addrACA [RHS]addrACA.
by rewrite [- b - q]addrC.
Qed.

Lemma mulrDr_mulrDl (c x d z : A) : c * (x + d) * z = c * x * z + c * d * z.
Proof. by rewrite mulrDr mulrDl. Qed.

Lemma first_kind_difference (x d : A) n :
  first_kind n (x + d) - first_kind n x
  = \sum_(j < n) second_kind (n.-1 - j) (x + d) * ((if val j == 0%N then 1 else 2%:R) * d * first_kind j x).
Proof.
rewrite (@solved (x + d) (fun n => first_kind n (x + d) - first_kind n x)
  (fun j => (if j == 0%N then 1 else 2%:R) * d * first_kind j x)) //=; first by rewrite subrr.
  by rewrite mul1r mulr1 addrC addKr.
move=> k; rewrite mulrBr [2%:R * (x + d) * first_kind k.+1 x]mulrDr_mulrDl.
exact: regroup.
Qed.

Lemma second_kind_difference (x d : A) n :
  second_kind n (x + d) - second_kind n x
  = \sum_(j < n) second_kind (n.-1 - j) (x + d) * (2%:R * d * second_kind j x).
Proof.
rewrite (@solved (x + d) (fun n => second_kind n (x + d) - second_kind n x)
  (fun j => 2%:R * d * second_kind j x)) //=; first by rewrite subrr.
  by rewrite mulr1 mulrDr addrC addKr.
by move=> k; rewrite mulrBr [2%:R * (x + d) * second_kind k.+1 x]mulrDr_mulrDl; apply: regroup.
Qed.
End Recurrence.

Section Norms.
Variables (R : realFieldType) (A : ringType) (N : A -> R).
Hypothesis norm : submultiplicative N.
Let N0 x : 0 <= N x. Proof. by case: norm. Qed.
Let ND x y : N (x + y) <= N x + N y. Proof. by case: norm. Qed.
Let NN x : N (- x) = N x. Proof. by case: norm. Qed.
Let NM x y : N (x * y) <= N x * N y. Proof. by case: norm. Qed.

Lemma norm_sum n (F : 'I_n -> A) : N 0 = 0 -> N (\sum_i F i) <= \sum_i N (F i).
Proof.
move=> zero; elim/big_ind2: _ => [|x r y s xr ys|//]; first by rewrite zero.
by apply: le_trans (ND _ _) _; apply: ler_add.
Qed.

Lemma norm_double x : N (2%:R * x) <= 2%:R * N x.
Proof. by rewrite !mulr_natl !mulr2n; apply: ND. Qed.
End Norms.

(* Where the first kind is at most 1 at S and the second at most j + 1, as for a symmetric matrix with its spectrum
   in [-1, 1] in the 2-norm, a perturbation of size eps moves T_n by at most eps (2 sum a_j - a_(n-1)), with a_n any
   numbers that grow as the second kind can: a_n >= n + 1 + 2 eps sum a_(n-1-j) (j + 1). *)
Theorem chebyshev_perturbation :
  forall (R : realFieldType) (A : ringType) (N : A -> R) (S D : A) (eps : R) (a : nat -> R) (n : nat),
  submultiplicative N ->
  N 0 = 0 ->
  (forall j, N (first_kind j S) <= 1) ->
  (forall j, N (second_kind j S) <= j.+1%:R) ->
  N D <= eps ->
  (forall k, k.+1%:R + 2%:R * eps * (\sum_(j < k) a (k.-1 - j)%N * j.+1%:R) <= a k) ->
  N (first_kind n (S + D) - first_kind n S)
  <= eps * \sum_(j < n) (if val j == 0%N then 1 else 2%:R) * a (n.-1 - j)%N.
Proof.
move=> R A N S D eps a n norm zero first second small grows.
have [N0 ND NN NM] := norm.
have eps0 : 0 <= eps by apply: le_trans (N0 D) small.
have bounded k : N (second_kind k (S + D)) <= a k.
  elim/ltn_ind: k => k IH; rewrite -[second_kind k (S + D)](subrK (second_kind k S)) second_kind_difference.
  apply: le_trans (ND _ _) _; rewrite addrC; apply: le_trans (grows k); apply: ler_add (second k) _.
  apply: le_trans (norm_sum norm _ zero) _; rewrite mulr_sumr; apply: ler_sum => j _.
  have kj : (k.-1 - j < k)%N by apply: leq_ltn_trans (leq_subr _ _) _; rewrite prednK // (leq_ltn_trans _ (ltn_ord j)).
  rewrite (_ : 2%:R * eps * _ = a (k.-1 - j)%N * (2%:R * eps * j.+1%:R)); last by ring.
  apply: le_trans (NM _ _) _.
  apply: ler_pmul => //; first exact: IH.
  apply: le_trans (NM _ _) _; apply: ler_pmul; [exact: N0 | exact: N0 | | exact: second].
  by apply: le_trans (norm_double norm _) _; rewrite ler_wpmul2l ?ler0n.
rewrite first_kind_difference; apply: le_trans (norm_sum norm _ zero) _; rewrite mulr_sumr.
apply: ler_sum => j _; apply: le_trans (NM _ _) _; rewrite mulrA [eps * _]mulrC [_ * eps * _]mulrC.
apply: ler_pmul => //; apply: le_trans (NM _ _) _; rewrite -[X in _ <= X]mulr1; apply: ler_pmul => //.
case: eqP => _; first by rewrite !mul1r.
by apply: le_trans (norm_double norm _) _; rewrite ler_wpmul2l ?ler0n.
Qed.

(* The recursion of a schedule.  Y_k = A Z_k as computed, S_k in exact arithmetic; the step multiplies Z_k by P_k,
   the polynomial at Y_k + E_k, and rounds once more by L_k. *)
Theorem schedule_rounding :
  forall (R : realFieldType) (A : ringType) (N : A -> R) (Y S E P L : nat -> A) (phi : nat -> R -> R)
    (eps e p l : nat -> R),
  submultiplicative N ->
  (forall k, Y k.+1 = Y k * P k + L k) ->
  (forall k x, N (Y k + E k - S k) <= x -> N ((Y k + E k) * P k - S k.+1) <= phi k x) ->
  (forall k, N (E k) <= e k) ->
  (forall k, N (P k) <= p k) ->
  (forall k, N (L k) <= l k) ->
  (forall k, phi k (eps k + e k) + e k * p k + l k <= eps k.+1) ->
  N (Y 0%N - S 0%N) <= eps 0%N ->
  forall (k : nat), N (Y k - S k) <= eps k.
Proof.
move=> R A N Y S E P L phi eps e p l [N0 ND NN NM] step moved seen factor rest enough start.
elim=> // k IH.
have -> : Y k.+1 - S k.+1 = ((Y k + E k) * P k - S k.+1) + (- (E k * P k) + L k).
  by rewrite step mulrDl [_ + E k * P k - _]addrAC [RHS]addrA addrK addrAC.
apply: le_trans (enough k); rewrite -[phi _ _ + _ + _]addrA; apply: le_trans (ND _ _) _; apply: ler_add.
  apply: moved; rewrite addrAC; apply: le_trans (ND _ _) _; exact: ler_add.
apply: le_trans (ND _ _) _; apply: ler_add => //; rewrite NN; apply: le_trans (NM _ _) _.
by apply: ler_pmul.
Qed.
