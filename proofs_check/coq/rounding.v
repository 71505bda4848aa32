(* Rounding in the standard model: an operation returns x (1 + d) with |d| <= u, x its exact result.
   Inner products in any order of summation, with fused multiply-adds or without, and matrix products;
   (1 + u)^k - 1 stands in place of Higham's k u / (1 - k u), which bounds it. *)
From mathcomp Require Import all_ssreflect all_algebra ring.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

Definition rounds (R : realFieldType) (u x y : R) : Prop := exists2 d, `|d| <= u & y = x * (1 + d).

(* What can come out as the sum of the products of pairs, in any order: a product, a fused multiply-add,
   the sum of two parts.  Adding the zero that an accumulator starts from is exact. *)
Inductive computed (R : realFieldType) (u : R) : seq (R * R) -> R -> Prop :=
| Empty : computed u [::] 0
| Single x y p : rounds u (x * y) p -> computed u [:: (x, y)] p
| Fused x y s r q : computed u s r -> rounds u (r + x * y) q -> computed u ((x, y) :: s) q
| Split s t p q r : s != [::] -> t != [::] -> computed u s p -> computed u t q ->
    rounds u (p + q) r -> computed u (s ++ t) r
| Reordered s t r : perm_eq s t -> computed u s r -> computed u t r.

Definition dot (R : realFieldType) (s : seq (R * R)) : R := \sum_(p <- s) p.1 * p.2.
Definition absdot (R : realFieldType) (s : seq (R * R)) : R := \sum_(p <- s) `|p.1| * `|p.2|.

(* The factor of k roundings. *)
Definition gamma (R : realFieldType) (u : R) (k : nat) : R := (1 + u) ^+ k - 1.

Section Factor.
Variables (R : realFieldType) (u : R).
Hypothesis u0 : 0 <= u.

Lemma power_ge1 k : 1 <= (1 + u) ^+ k.
Proof. by rewrite exprn_ege1 // ler_addl. Qed.

Lemma gamma_ge0 k : 0 <= gamma u k.
Proof. by rewrite subr_ge0 power_ge1. Qed.

Lemma gamma_le k l : (k <= l)%N -> gamma u k <= gamma u l.
Proof. by move=> kl; rewrite ler_add2r ler_weexpn2l // ler_addl. Qed.

Lemma rounds_error x y : rounds u x y -> `|y - x| <= u * `|x|.
Proof.
by case=> d du ->; rewrite mulrDr mulr1 addrC addKr normrM mulrC ler_wpmul2r.
Qed.

(* One rounding of what k roundings made: the one step of every proof below. *)
Lemma once_more k x xh y M : `|xh - x| <= gamma u k * M -> `|x| <= M -> rounds u xh y ->
  `|y - x| <= gamma u k.+1 * M.
Proof.
move=> close small /rounds_error err.
have M0 : 0 <= M by apply: le_trans small.
have xhM : `|xh| <= (1 + u) ^+ k * M.
  rewrite -[xh](subrK x); apply: le_trans (ler_norm_add _ _) _; apply: le_trans (ler_add close small) _.
  by rewrite /gamma mulrBl mul1r subrK.
have -> : y - x = (y - xh) + (xh - x) by rewrite addrA subrK.
apply: le_trans (ler_norm_add _ _) _; apply: le_trans (ler_add err close) _.
apply: le_trans (ler_add (ler_wpmul2l u0 xhM) (lexx _)) _.
by rewrite le_eqVlt /gamma exprS; apply/orP; left; apply/eqP; ring.
Qed.
End Factor.

Lemma absdot_ge0 (R : realFieldType) (s : seq (R * R)) : 0 <= absdot s.
Proof. by apply: sumr_ge0 => p _; rewrite mulr_ge0. Qed.

Lemma dot_le_absdot (R : realFieldType) (s : seq (R * R)) : `|dot s| <= absdot s.
Proof. by apply: le_trans (ler_norm_sum _ _ _) _; apply: ler_sum => p _; rewrite normrM. Qed.

Lemma absdot_cat (R : realFieldType) (s t : seq (R * R)) : absdot (s ++ t) = absdot s + absdot t.
Proof. by rewrite /absdot big_cat. Qed.

Theorem inner_product_rounding :
  forall (R : realFieldType) (u : R) (n : nat) (s : seq (R * R)) (r : R),
  0 <= u ->
  size s = n ->
  computed u s r ->
  `|r - \sum_(p <- s) p.1 * p.2| <= ((1 + u) ^+ n - 1) * \sum_(p <- s) `|p.1| * `|p.2|.
Proof.
move=> R u n s r u0 <-; rewrite -/(dot s) -/(absdot s) -/(gamma u (size s)).
elim=> {s r} [|x y p round|x y s r q _ IH round|s t p q r s0 t0 _ IHs _ IHt round|s t r st _ IH].
- by rewrite /dot /absdot !big_nil subrr normr0 mulr0.
- rewrite /dot /absdot !big_seq1 /=; apply: (once_more u0 (k := 0)) round; last by rewrite normrM.
  by rewrite subrr normr0 /gamma expr0 subrr mul0r.
- rewrite {1}/dot big_cons /absdot big_cons /= -/(dot s) -/(absdot s).
  apply: (once_more u0 (k := size s)) round; last first.
    by apply: le_trans (ler_norm_add _ _) _; rewrite normrM ler_add2l dot_le_absdot.
  rewrite [x * y + _]addrC opprD addrACA subrr addr0; apply: le_trans IH _.
  by apply: ler_wpmul2l; rewrite ?gamma_ge0 // ler_addr mulr_ge0.
- rewrite absdot_cat /dot big_cat /= -/(dot s) -/(dot t) size_cat.
  have [m count] : {m | size s + size t = m.+1}%N by case: (s) s0 => // a s' _; exists (size s' + size t)%N.
  have [sm tm] : (size s <= m)%N /\ (size t <= m)%N.
    split; rewrite -ltnS -count; first by rewrite -[X in (X < _)%N]addn0 ltn_add2l; case: (t) t0.
    by rewrite -[X in (X < _)%N]add0n ltn_add2r; case: (s) s0.
  rewrite count; apply: (once_more u0) round; last by apply: le_trans (ler_norm_add _ _) _; rewrite ler_add ?dot_le_absdot.
  have -> : p + q - (dot s + dot t) = (p - dot s) + (q - dot t) by rewrite opprD addrACA.
  apply: le_trans (ler_norm_add _ _) _; rewrite mulrDr; apply: ler_add.
    by apply: le_trans IHs _; apply: ler_wpmul2r; [exact: absdot_ge0 | exact: gamma_le].
  by apply: le_trans IHt _; apply: ler_wpmul2r; [exact: absdot_ge0 | exact: gamma_le].
have [<- <- <-] : [/\ size s = size t, dot s = dot t & absdot s = absdot t].
  by split; [exact: perm_size | apply: perm_big | apply: perm_big].
exact: IH.
Qed.

(* Higham's form of the factor. *)
Theorem gamma_bound :
  forall (R : realFieldType) (u : R) (k : nat),
  0 <= u ->
  k%:R * u < 1 ->
  k%:R * u <= (1 + u) ^+ k - 1 <= k%:R * u / (1 - k%:R * u).
Proof.
move=> R u k u0 small; apply/andP; split.
  rewrite ler_subr_addl; elim: k {small} => [|k IH]; first by rewrite mul0r addr0 expr0.
  rewrite exprS mulrDl mul1r; apply: le_trans (ler_add IH (ler_wpmul2l u0 (power_ge1 u0 k))).
  by rewrite -addn1 natrD mulrDl mul1r mulr1 addrA.
have pos : 0 < 1 - k%:R * u by rewrite subr_gt0.
rewrite ler_pdivl_mulr // mulrBl mul1r ler_subl_addr.
rewrite [X in _ <= X](_ : _ = 1); last by ring.
clear pos.
elim: k small => [|k IH] small; first by rewrite expr0 mul1r mul0r subr0.
have less : k%:R * u <= k.+1%:R * u by rewrite ler_wpmul2r // ler_nat.
apply: le_trans (IH (le_lt_trans less small)); rewrite exprSr -mulrA.
apply: ler_wpmul2l; first exact: le_trans ler01 (power_ge1 u0 k).
have -> : (1 + u) * (1 - k.+1%:R * u) = 1 - k%:R * u - k.+1%:R * u ^+ 2 by rewrite -addn1 natrD; ring.
by rewrite ler_subl_addr ler_addl mulr_ge0 ?ler0n ?sqr_ge0.
Qed.

Definition entrywise (R : realFieldType) m n (A : 'M[R]_(m, n)) : 'M[R]_(m, n) := map_mx Num.norm A.
Definition below (R : realFieldType) m n (A B : 'M[R]_(m, n)) : Prop := forall i j, A i j <= B i j.

(* C is what can come out as the product of A and B. *)
Definition product_computed (R : realFieldType) (u : R) m n p (A : 'M[R]_(m, n)) (B : 'M[R]_(n, p))
    (C : 'M[R]_(m, p)) : Prop :=
  forall i j, computed u [seq (A i k, B k j) | k <- enum 'I_n] (C i j).

Theorem matrix_product_rounding :
  forall (R : realFieldType) (u : R) (m n p : nat) (A : 'M[R]_(m, n)) (B : 'M[R]_(n, p)) (C : 'M[R]_(m, p)),
  0 <= u ->
  product_computed u A B C ->
  below (entrywise (C - A *m B)) (((1 + u) ^+ n - 1) *: (entrywise A *m entrywise B)).
Proof.
move=> R u m n p A B C u0 done i j; have := inner_product_rounding u0 erefl (done i j).
rewrite size_map size_enum_ord !big_map !mxE ![index_enum _]unlock /=.
by rewrite [X in _ <= _ * X -> _](eq_bigr (fun k => entrywise A i k * entrywise B k j)) // => k _; rewrite !mxE.
Qed.

