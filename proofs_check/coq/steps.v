(* Rounding of the steps of the iterations: a calculus of matrices that k roundings made, and with it every step
   that multiplies, adds and scales.  What is lost is (1 + u)^k - 1 times the same step with moduli for numbers. *)
From mathcomp Require Import all_ssreflect all_algebra ring.
From NystromProofs Require Import rounding.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

(* Xh is X up to k roundings of something of magnitude M. *)
Definition within (R : realFieldType) (u : R) (k : nat) m n (X Xh M : 'M[R]_(m, n)) : Prop :=
  forall i j, `|Xh i j - X i j| <= gamma u k * M i j /\ `|X i j| <= M i j.

Definition sum_computed (R : realFieldType) (u : R) m n (A B C : 'M[R]_(m, n)) : Prop :=
  forall i j, rounds u (A i j + B i j) (C i j).

(* c A, where c too is rounded to the format. *)
Definition multiple_computed (R : realFieldType) (u c : R) m n (A C : 'M[R]_(m, n)) : Prop :=
  exists2 ch, rounds u c ch & forall i j, rounds u (ch * A i j) (C i j).

Section Calculus.
Variables (R : realFieldType) (u : R).
Hypothesis u0 : 0 <= u.

Lemma within_exact m n (X : 'M[R]_(m, n)) : within u 0 X X (entrywise X).
Proof. by move=> i j; rewrite subrr normr0 /gamma expr0 subrr mul0r mxE. Qed.

Lemma within_below k m n (X Xh M : 'M[R]_(m, n)) :
  within u k X Xh M -> below (entrywise (Xh - X)) (((1 + u) ^+ k - 1) *: M).
Proof. by move=> close i j; have [err _] := close i j; rewrite !mxE. Qed.

Lemma within_more k l m n (X Xh M : 'M[R]_(m, n)) : (k <= l)%N -> within u k X Xh M -> within u l X Xh M.
Proof.
move=> kl close i j; have [err small] := close i j; split=> //; apply: le_trans err _.
by apply: ler_wpmul2r; [apply: le_trans small | apply: gamma_le].
Qed.

Lemma within_sum k m n (A B Ah Bh M N C : 'M[R]_(m, n)) :
  within u k A Ah M -> within u k B Bh N -> sum_computed u Ah Bh C -> within u k.+1 (A + B) C (M + N).
Proof.
move=> closeA closeB round i j; rewrite !mxE; have [errA smallA] := closeA i j.
have [errB smallB] := closeB i j.
have small : `|A i j + B i j| <= M i j + N i j by apply: le_trans (ler_norm_add _ _) _; rewrite ler_add.
split=> //; apply: (once_more u0) small (round i j).
by rewrite opprD addrACA mulrDr; apply: le_trans (ler_norm_add _ _) _; rewrite ler_add.
Qed.

(* Factors with p - 1 and q - 1 of relative error have a product with p q - 1. *)
Lemma product_error (p q a ah m b bh n : R) : 1 <= p -> 1 <= q ->
  `|ah - a| <= (p - 1) * m -> `|a| <= m -> `|bh - b| <= (q - 1) * n -> `|b| <= n ->
  `|ah * bh - a * b| <= (p * q - 1) * (m * n).
Proof.
move=> p1 q1 erra smalla errb smallb.
have m0 : 0 <= m by apply: le_trans smalla.
have bhq : `|bh| <= q * n.
  rewrite -[bh](subrK b); apply: le_trans (ler_norm_add _ _) _; apply: le_trans (ler_add errb smallb) _.
  by rewrite mulrBl mul1r subrK.
have -> : ah * bh - a * b = (ah - a) * bh + a * (bh - b) by ring.
apply: le_trans (ler_norm_add _ _) _; rewrite !normrM.
have -> : (p * q - 1) * (m * n) = (p - 1) * m * (q * n) + m * ((q - 1) * n) by ring.
by apply: ler_add; apply: ler_pmul.
Qed.

Lemma within_product k l m n p (A Ah M : 'M[R]_(m, n)) (B Bh N : 'M[R]_(n, p)) (C : 'M[R]_(m, p)) :
  within u k A Ah M -> within u l B Bh N -> product_computed u Ah Bh C ->
  within u (k + l + n) (A *m B) C (M *m N).
Proof.
move=> closeA closeB round i j.
have term x : `|Ah i x * Bh x j - A i x * B x j| <= gamma u (k + l) * (M i x * N x j).
  have [errA smallA] := closeA i x; have [errB smallB] := closeB x j.
  by rewrite /gamma exprD; apply: product_error => //; apply: power_ge1.
have small x : `|A i x * B x j| <= M i x * N x j.
  by rewrite normrM; apply: ler_pmul => //; [have [] := closeA i x | have [] := closeB x j].
have sizes x : `|Ah i x| * `|Bh x j| <= (1 + u) ^+ (k + l) * (M i x * N x j).
  rewrite -normrM -[Ah i x * _](subrK (A i x * B x j)); apply: le_trans (ler_norm_add _ _) _.
  by apply: le_trans (ler_add (term x) (small x)) _; rewrite /gamma mulrBl mul1r subrK.
split; last first.
  by rewrite !mxE; apply: le_trans (ler_norm_sum _ _ _) _; apply: ler_sum => x _; apply: small.
have := matrix_product_rounding u0 round i j; rewrite !mxE -/(gamma u n) => err.
have apart (c b a : R) : c - a = (b - a) + (c - b) by ring.
rewrite (apart _ (\sum_x Ah i x * Bh x j)).
apply: le_trans (ler_norm_add _ _) _; rewrite mulr_sumr.
have inherited : `|\sum_x Ah i x * Bh x j - \sum_x A i x * B x j| <= \sum_x gamma u (k + l) * (M i x * N x j).
  by rewrite -sumrB; apply: le_trans (ler_norm_sum _ _ _) _; apply: ler_sum => x _; apply: term.
apply: le_trans (ler_add inherited err) _.
rewrite mulr_sumr -big_split /=; apply: ler_sum => x _; rewrite !mxE.
apply: le_trans (ler_add (lexx _) (ler_wpmul2l (gamma_ge0 u0 n) (sizes x))) _.
by rewrite le_eqVlt /gamma [_ ^+ (_ + n)]exprD; apply/orP; left; apply/eqP; ring.
Qed.

Lemma within_multiple k c m n (A Ah M C : 'M[R]_(m, n)) :
  within u k A Ah M -> multiple_computed u c Ah C -> within u k.+2 (c *: A) C (`|c| *: M).
Proof.
move=> close [ch chc round] i j; have [err small] := close i j; rewrite !mxE.
have bound : `|c * A i j| <= `|c| * M i j by rewrite normrM ler_wpmul2l.
split=> //; apply: (once_more u0 (k := k.+1)) bound (round i j).
rewrite /gamma exprS; apply: product_error => //; try exact: power_ge1; first by rewrite ler_addl.
by rewrite addrAC subrr add0r; apply: rounds_error chc.
Qed.
End Calculus.

(* What the steps compute from Y = A Z, as a program. *)
Inductive program (R : Type) : Type :=
  Argument | Identity of R | Multiple of R & program R | Sum of program R & program R
| Product of program R & program R.
Arguments Argument {R}.

Fixpoint meaning (R : realFieldType) n (e : program R) (Y : 'M[R]_n) : 'M[R]_n :=
  match e with
  | Argument => Y
  | Identity c => c%:M
  | Multiple c f => c *: meaning f Y
  | Sum f g => meaning f Y + meaning g Y
  | Product f g => meaning f Y *m meaning g Y
  end.

(* The program with moduli for its numbers. *)
Fixpoint magnitude (R : realFieldType) n (e : program R) (M : 'M[R]_n) : 'M[R]_n :=
  match e with
  | Argument => M
  | Identity c => `|c|%:M
  | Multiple c f => `|c| *: magnitude f M
  | Sum f g => magnitude f M + magnitude g M
  | Product f g => magnitude f M *m magnitude g M
  end.

(* Roundings on the longest way through it, if its argument comes with k. *)
Fixpoint roundings (R : Type) (n k : nat) (e : program R) : nat :=
  match e with
  | Argument => k
  | Identity _ => 1
  | Multiple _ f => (roundings n k f).+2
  | Sum f g => (maxn (roundings n k f) (roundings n k g)).+1
  | Product f g => roundings n k f + roundings n k g + n
  end.

Fixpoint executed (R : realFieldType) (u : R) n (e : program R) (Y C : 'M[R]_n) : Prop :=
  match e with
  | Argument => C = Y
  | Identity c => exists2 ch, rounds u c ch & C = ch%:M
  | Multiple c f => exists2 F, executed u f Y F & multiple_computed u c F C
  | Sum f g => exists F G, [/\ executed u f Y F, executed u g Y G & sum_computed u F G C]
  | Product f g => exists F G, [/\ executed u f Y F, executed u g Y G & product_computed u F G C]
  end.

Lemma within_program (R : realFieldType) (u : R) n k (e : program R) (Y Yh M C : 'M[R]_n) :
  0 <= u -> within u k Y Yh M -> executed u e Yh C ->
  within u (roundings n k e) (meaning e Y) C (magnitude e M).
Proof.
move=> u0 close; elim: e C => [|c|c f IH|f IHf g IHg|f IHf g IHg] C /=.
- by move=> ->.
- case=> ch chc -> i j; rewrite !mxE; have [_|_] := eqVneq i j; last first.
    by rewrite !mulr0n subrr normr0 mulr0 lexx.
  by rewrite !mulr1n /gamma expr1 addrAC subrr add0r; split=> //; apply: rounds_error chc.
- by case=> F /IH closeF; apply: within_multiple.
- case=> F [G [/IHf closeF /IHg closeG]]; apply: within_sum => //.
    by apply: within_more closeF => //; apply: leq_maxl.
  by apply: within_more closeG => //; apply: leq_maxr.
by case=> F [G [/IHf closeF /IHg closeG]]; apply: within_product.
Qed.

Theorem program_rounding :
  forall (R : realFieldType) (u : R) (n : nat) (e : program R) (Y C : 'M[R]_n),
  0 <= u ->
  executed u e Y C ->
  below (entrywise (C - meaning e Y)) (((1 + u) ^+ roundings n 0 e - 1) *: magnitude e (entrywise Y)).
Proof.
move=> R u n e Y C u0 done i j.
by have [err _] := within_program u0 (within_exact u Y) done i j; rewrite !mxE.
Qed.

(* Newton and Schulz's step as it is executed: A Z, its product with Z, and 2 Z less that. *)
Theorem newton_schulz_rounding :
  forall (R : realFieldType) (u : R) (m n : nat) (A : 'M[R]_(m, n)) (Z P Znext : 'M[R]_(n, m)) (Y : 'M[R]_m),
  0 <= u ->
  product_computed u A Z Y ->
  product_computed u Z Y P ->
  sum_computed u (2%:R *: Z) (- P) Znext ->
  below (entrywise (Znext - Z *m (2%:R%:M - A *m Z)))
    (((1 + u) ^+ (m + n + 1) - 1) *: (2%:R *: entrywise Z + entrywise Z *m (entrywise A *m entrywise Z))).
Proof.
move=> R u m n A Z P Znext Y u0 doneY doneP doneZ.
have closeY := within_product u0 (within_exact u A) (within_exact u Z) doneY.
have closeP := within_product u0 (within_exact u Z) closeY doneP.
have closeN : within u (0 + (0 + 0 + n) + m) (- (Z *m (A *m Z))) (- P) (entrywise Z *m (entrywise A *m entrywise Z)).
  by move=> x y; have [err small] := closeP x y; split; rewrite !mxE -?opprD normrN // in small err *.
have closeD : within u (0 + (0 + 0 + n) + m) (2%:R *: Z) (2%:R *: Z) (2%:R *: entrywise Z).
  move=> x y; rewrite subrr normr0 !mxE normrM ger0_norm ?ler0n // lexx; split=> //.
  by rewrite mulr_ge0 ?gamma_ge0 // mulr_ge0 ?ler0n.
have := within_sum u0 closeD closeN doneZ; rewrite !add0n -addn1 [(n + m)%N]addnC => close.
have -> : Z *m (2%:R%:M - A *m Z) = 2%:R *: Z + - (Z *m (A *m Z)) by rewrite mulmxBr mul_mx_scalar.
exact: within_below close.
Qed.

(* Any step Z -> c Z + Z e(A Z), such as those that are optimal on an interval. *)
Theorem step_rounding :
  forall (R : realFieldType) (u c : R) (m n : nat) (e : program R)
    (A : 'M[R]_(m, n)) (Z S P Znext : 'M[R]_(n, m)) (Y E : 'M[R]_m),
  0 <= u ->
  product_computed u A Z Y ->
  executed u e Y E ->
  product_computed u Z E P ->
  multiple_computed u c Z S ->
  sum_computed u S P Znext ->
  below (entrywise (Znext - (c *: Z + Z *m meaning e (A *m Z))))
    (((1 + u) ^+ (maxn 2 (roundings m n e + m)).+1 - 1)
     *: (`|c| *: entrywise Z + entrywise Z *m magnitude e (entrywise A *m entrywise Z))).
Proof.
move=> R u c m n e A Z S P Znext Y E u0 doneY doneE doneP doneS doneZ.
have closeY := within_product u0 (within_exact u A) (within_exact u Z) doneY.
have closeE := within_program u0 closeY doneE.
have closeP := within_product u0 (within_exact u Z) closeE doneP.
have closeS := within_multiple u0 (within_exact u Z) doneS.
rewrite !add0n in closeP.
apply: within_below; apply: within_sum doneZ => //.
  by apply: within_more closeS => //; apply: leq_maxl.
by apply: within_more closeP => //; apply: leq_maxr.
Qed.
