"""Mutations under which the checks of claws and of the kit for their authors turn red."""

from __future__ import annotations

from femtoclaw.compliance.kit import authored, shipped
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.module_contract import answers_of_claws, declarations_of_modules, lives
from femtoclaw.compliance.module_life import SECRET, module_life
from tests.compliance.mutating import MUTATIONS, measured
from tests.compliance.mutations_modules import life_answer, ran_like


def a_secret_got_out(laboratory: Laboratory) -> Laboratory:
    """One event holds the secret."""
    found = laboratory.once(module_life)

    def with_it(told: list) -> list:  # type: ignore[type-arg]
        told[-1] = told[-1]._replace(raw=told[-1].raw + SECRET.encode())
        return told

    return laboratory.replaced(module_life, found._replace(trail=found.trail.changed(with_it)))


def a_possible_pair(laboratory: Laboratory) -> Laboratory:
    """A request could follow the load."""
    found = laboratory.once(lives)
    return laboratory.replaced(lives, found | {"pairs": found["pairs"] | {("load", "request"): True}})


def an_unlisted_class(laboratory: Laboratory) -> Laboratory:
    """A class without a claw gives no reason."""
    found = laboratory.once(module_life)
    body = found.answers["list"].body
    other = body | {"classes": body["classes"] | {"device": {"claws": [], "reason": ""}}}
    return life_answer("list", objects=[other])(laboratory)


def a_changing_name(laboratory: Laboratory) -> Laboratory:
    """A shipped claw had another name after it executed."""
    found = laboratory.once(shipped)
    return laboratory.replaced(shipped, found | {"constant": found["constant"] | {"shell": False}})


MUTATIONS |= {
    "claws_keep_their_contract": ran_like("claw without execute", "works"),
    "names_are_constant": a_changing_name,
    "errors_have_classes_and_no_secrets": a_secret_got_out,
    "classes_are_listed": an_unlisted_class,
    "lives_have_eight_stages": a_possible_pair,
    "ids_are_unique": measured(declarations_of_modules, **{"an empty id": ""}),
    "responses_are_one_of_two": measured(answers_of_claws, both="success"),
    "answers_come_again": measured(authored, declared={"passed": True, "stated": True, "detail": ""}),
    "bad_claws_are_contained": ran_like("forks", "works"),
    "claws_are_tested_before": life_answer("untested", stderr=""),
}
