(* Chebyshev polynomials over any commutative ring compose: T_a (T_b) = T_(a b).  So composing the
   interval-optimal steps of degrees a and b is the interval-optimal step of degree a b. *)
From mathcomp Require Import all_ssreflect all_algebra ring.
Set Implicit Arguments. Unset Strict Implicit. Unset Printing Implicit Defensive.
Import GRing.Theory.
Local Open Scope ring_scope.

(* T_0 = 1, T_1 = X, T_(n+2) = 2 X T_(n+1) - T_n. *)
Fixpoint chebyshev (R : comRingType) (n : nat) : {poly R} :=
  if n isn't n1.+1 then 1 else
  if n1 isn't n2.+1 then 'X else 2%:R * 'X * chebyshev R n1 - chebyshev R n2.

Section Composition.
Variable R : comRingType.
Notation T := (chebyshev R).

Lemma chebyshevSS n : T n.+2 = 2%:R * 'X * T n.+1 - T n.
Proof. by []. Qed.

Lemma two_step (P : nat -> Prop) : P 0%N -> P 1%N -> (forall n, P n -> P n.+1 -> P n.+2) -> forall n, P n.
Proof.
move=> P0 P1 step n; suff: P n /\ P n.+1 by case.
by elim: n => // n [Pn Pn1]; split=> //; apply: step.
Qed.

Lemma chebyshev_product a d : 2%:R * T a * T (a + d) = T (a + a + d) + T d.
Proof.
move: a d; elim/two_step => [d|d|a IHa IHa1 d]; first by rewrite /= add0n; ring.
  by rewrite (_ : (1 + 1 + d = d.+2)%N) // chebyshevSS add1n /=; ring.
have IH1 := IHa1 d.+1; have IH0 := IHa d.+2.
rewrite (_ : (a.+1 + d.+1 = (a + d).+2)%N) in IH1; last by rewrite addSn addnS.
rewrite (_ : (a.+1 + a.+1 + d.+1 = (a + a + d).+3)%N) in IH1; last by rewrite !addSn !addnS !addSn.
rewrite (_ : (a + d.+2 = (a + d).+2)%N) in IH0; last by rewrite !addnS.
rewrite (_ : (a + a + d.+2 = (a + a + d).+2)%N) in IH0; last by rewrite !addnS.
rewrite (_ : (a.+2 + d = (a + d).+2)%N); last by rewrite !addSn.
rewrite (_ : (a.+2 + a.+2 + d = (a + a + d).+4)%N); last by rewrite !addSn !addnS !addSn.
rewrite (chebyshevSS a) (chebyshevSS (a + a + d).+2).
transitivity (2%:R * 'X * (2%:R * T a.+1 * T (a + d).+2) - 2%:R * T a * T (a + d).+2); first by ring.
by rewrite IH1 IH0 (chebyshevSS d); ring.
Qed.
End Composition.

Theorem chebyshev_composition :
  forall (R : comRingType) (a b : nat),
  chebyshev R a \Po chebyshev R b = chebyshev R (a * b).
Proof.
move=> R; elim/two_step => [b|b|a IHa IHa1 b]; first by rewrite mul0n /= comp_polyC.
  by rewrite mul1n /= comp_polyX.
have two : (2%:R : {poly R}) \Po chebyshev R b = 2%:R by rewrite (rmorph_nat (comp_poly_rmorphism _)).
rewrite chebyshevSS comp_polyB !comp_polyM two comp_polyX IHa IHa1.
have -> : chebyshev R (a.+1 * b) = chebyshev R (b + a * b) by rewrite mulSn.
by rewrite chebyshev_product addrK !mulSn addnA.
Qed.
