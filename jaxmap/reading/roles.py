"""Which column of a catalogue plays which role: a position, a shape, a weight, a calibration."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence

from jaxmap.reading.surveys import GENERIC, REQUIRED, RESPONSES, ROLES, SHEARED, Survey
from jaxmap.reading.tableformats import Columns, listed

log = logging.getLogger(__name__)


def find_columns(
    table: Columns,
    survey: Survey,
    given: Mapping[str, str | None],
    not_needed: Collection[str] = (),
) -> dict[str, str]:
    """Which column plays which role.

    Args:
        table: has the names.
        survey: knows the names to look for, without regard to case.
        given: names that the user chose, by role; None leaves the role out.
        not_needed: roles not to look for.

    Raises:
        ValueError: for unknown roles, and for columns that are missing or ambiguous.
    """
    if unknown := set(given) - set(ROLES):
        raise ValueError(f"columns has the roles {sorted(unknown)}; expected some of {ROLES}")
    found: dict[str, str] = {}
    for role in ROLES:
        names = _aliases(role, survey, given, not_needed)
        matches: list[str] = []
        for name in names:
            if not (matches and survey.ranked):
                matches += [n for n in _same_name(name, table.names) if n not in matches]
        if len(matches) > 1:
            raise ValueError(
                f"{table.label}: the columns {', '.join(matches)} could all be {role!r}; name the "
                f"right one, as in {columns_option(role, matches[0])}"
            )
        if matches:
            found[role] = matches[0]
        elif role in REQUIRED or given.get(role) is not None:
            raise ValueError(
                f"{table.label}: no column for {role!r} (looked for {', '.join(names) or 'none'}; "
                f"survey {survey.name}); the columns are {listed(table.names)}; name yours, as in "
                f"{columns_option(role)}"
            )
    _check_pair(table.label, survey, given, found)
    _tell_unused(table, survey, given, found, not_needed)
    return found


def has_positions(
    names: Sequence[str], surveys: Collection[Survey], given: Mapping[str, str | None]
) -> bool:
    """Whether right ascension and declination are among the columns, by a name of any survey."""
    return all(
        any(_same_name(alias, names) for s in surveys for alias in _aliases(role, s, given))
        for role in ("ra", "dec")
    )


def require_calibration(
    table: Columns, survey: Survey, found: Mapping[str, str], given: Collection[str]
) -> None:
    """Refuse shapes of a survey that must be calibrated and come without.

    Args:
        table: for messages.
        survey: knows what its shapes need.
        found: columns by role.
        given: roles for which the user gave numbers.

    Raises:
        ValueError: if the response or the multiplicative bias is missing.
    """
    has = {*found, *given}
    has_response = "response" in has or {"R11", "R22"} <= has or set(SHEARED) <= has
    if found["e1"].lower() in survey.responsive and not has_response:
        missing = [name for role in RESPONSES for name in survey.columns.get(role, ())]
        raise ValueError(
            f"{table.label}: {found['e1']!r} (survey {survey.name}) needs a response, and there "
            f"are no columns {listed(missing)}; give its mean, response=... (--response)"
        )
    if survey.needs_m and "m" not in has:
        raise ValueError(
            f"{table.label}: shapes of survey {survey.name} need a multiplicative bias, and there "
            f"is no column {survey.columns['m'][0]}; give m=... (--m; 0 to do without)"
        )


def _aliases(
    role: str, survey: Survey, given: Mapping[str, str | None], not_needed: Collection[str] = ()
) -> tuple[str, ...]:
    if role in given:
        name = given[role]
        return () if name is None else (name,)
    return () if role in not_needed else survey.columns.get(role, ())


def columns_option(role: str, name: str = "name") -> str:
    """How to name a column for a role, in Python and on the command line."""
    return f"columns={{{role!r}: {name!r}}} (--columns {role}={name})"


def _same_name(wanted: str, names: Sequence[str]) -> list[str]:
    for alike in (str, str.lower, _without_unit):
        if same := [name for name in names if alike(name) == alike(wanted)]:
            return same
    return []


def _without_unit(name: str) -> str:
    """Lower-case name without degrees at its end: "ra" for "RA_DEG", "ra (deg)" or "ra[deg]"."""
    return re.sub(r"([\s_]+|\s*[(\[])deg(ree)?s?[)\]]?$", "", name.lower())


def _check_pair(
    label: str, survey: Survey, given: Mapping[str, str | None], found: Mapping[str, str]
) -> None:
    if "e1" in given or "e2" in given:
        return
    ranks = [
        [a.lower() for a in survey.columns[r]].index(_without_unit(found[r])) for r in ("e1", "e2")
    ]
    if ranks[0] != ranks[1]:
        raise ValueError(
            f"{label}: {found['e1']!r} and {found['e2']!r} are not a pair of components; name "
            "both, columns={'e1': ..., 'e2': ...} (--columns e1=...,e2=...)"
        )


def _tell_unused(
    table: Columns,
    survey: Survey,
    given: Mapping[str, str | None],
    found: Mapping[str, str],
    not_needed: Collection[str],
) -> None:
    # "m" may as well be a magnitude, so only a survey or the user can make it a bias.
    roles = [r for r in ("m", "c1", "c2", "R11", "R22") if r not in (*given, *not_needed)]
    left = [n for r in roles for n in _same_name(r, table.names) if n not in found.values()]
    if survey is GENERIC and left:
        log.warning(
            "%s: columns %s look like a calibration and are not applied; name those to apply, as "
            "in columns={'m': 'm'} (--columns m=m), or give the survey (--survey)",
            table.label,
            ", ".join(left),
        )
