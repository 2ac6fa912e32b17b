"""The corpus of the compliance run, under the name that the tests of this folder know."""

from femtoclaw.compliance.corpus import INJECTIONS, RISKS

__all__ = ["INJECTIONS", "RISKS"]
