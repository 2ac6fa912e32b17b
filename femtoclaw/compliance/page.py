"""The report as one HTML page: no script, no font, no picture from elsewhere; red first, the evidence beside each verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from femtoclaw.cli.render import when
from femtoclaw.compliance.checking import FAILED, NOT_APPLICABLE, NOT_SHOWN, SHOWN
from femtoclaw.compliance.register import Requirement

ORDER = (FAILED, NOT_SHOWN, SHOWN, NOT_APPLICABLE)
_CLASS = {FAILED: "bad", NOT_SHOWN: "open", SHOWN: "good", NOT_APPLICABLE: "none"}
_WORD = {"COMPLIANT": "good", "INCOMPLETE": "open", "NON_COMPLIANT": "bad", "UNVERIFIED": "open"}

STYLE = """
:root{--ink:#1b1f24;--paper:#fbfaf7;--line:#dedad0;--soft:#6b6f76;--good:#1f7a4d;--bad:#b3261e;--open:#b26a00;--none:#8a8f98}
@media (prefers-color-scheme:dark){:root{--ink:#e8e6e1;--paper:#15171a;--line:#2f3338;--soft:#9aa0a8;--good:#5cc08c;--bad:#ff7b72;
--open:#e0a34a;--none:#7d838c}}
*{box-sizing:border-box}body{margin:0 auto;max-width:70rem;padding:3rem 1.5rem 6rem;background:var(--paper);color:var(--ink);
font:16px/1.55 Georgia,"Iowan Old Style",serif}h1{font-size:2.2rem;line-height:1.15;margin:0 0 .3rem;font-weight:600}
h2{font-size:1.25rem;margin:3rem 0 .8rem;border-bottom:1px solid var(--line);padding-bottom:.3rem}
p{margin:.3rem 0}.soft{color:var(--soft)}code,.id,td.n{font:13px/1.5 ui-monospace,Menlo,Consolas,monospace}
.word{display:inline-block;font:600 1rem/1 ui-monospace,monospace;letter-spacing:.04em;padding:.55rem .8rem;border:2px solid;
border-radius:4px;margin:1rem .6rem 1rem 0}.good{color:var(--good)}.bad{color:var(--bad)}.open{color:var(--open)}
.none{color:var(--none)}table{border-collapse:collapse;width:100%;font-size:.95rem}th{text-align:left;font-weight:600;
color:var(--soft)}td,th{padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top}td.n{text-align:right}
.bar{display:flex;height:.7rem;min-width:9rem;border-radius:2px;overflow:hidden;background:var(--line);margin-top:.35rem}
.bar i{display:block;background:currentColor}details{border-bottom:1px solid var(--line);padding:.45rem 0}summary{cursor:pointer;
list-style:none;display:grid;grid-template-columns:8.5rem 7.5rem 1fr;gap:.6rem}summary::-webkit-details-marker{display:none}
details div{margin:.5rem 0 .6rem 16.6rem;overflow-wrap:anywhere}@media(max-width:44rem){summary{grid-template-columns:1fr}
details div{margin-left:0}}dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1.2rem;margin:.5rem 0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
"""


def page(
    report: dict[str, Any], digest: str, register: Mapping[str, Requirement], declared: list[dict[str, str]]
) -> str:  # fmt: skip
    """The whole page."""
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>Compliance: {escape(report['overall'])}</title><style>{STYLE}</style></head><body>",
        *_head(report, digest), *_figures(report, "documents", "By document"), *_figures(report, "domains", "By domain"),
        *_checklist(report), *_verdicts(report, register), *_level(report), *_deviations(declared), "</body></html>\n",
    ]  # fmt: skip
    return "\n".join(parts)


def _head(report: dict[str, Any], digest: str) -> Iterator[str]:
    installation, run, built = report["installation"], report["run"], report["build"]
    yield f"<h1>FemtoClaw {escape(built['version'])}</h1><p class=soft>Compliance of this installation, {when(run['time_ns'])}</p>"
    yield _word("all documents", report["overall"]) + _word("the five seeds", report["seed"])
    level = report["level"]
    yield f"<span class='word {'good' if level['number'] else 'open'}'>level {level['number']}: {escape(level['name'])}</span>"
    rows = {
        "runtime": installation["runtime_id"], "log": f"{installation['log']}, {run['size']} records, head {run['link']}",
        "build": built["digest"], "distribution": f"{built['distribution']} {built['manifest']}",
        "scope": ", ".join(report["scope"]), "digest of this report": digest,
    }  # fmt: skip
    yield (
        "<dl>"
        + "".join(f"<dt>{escape(k)}</dt><dd><code>{escape(str(v))}</code></dd>" for k, v in rows.items())
        + "</dl>"
    )


def _word(what: str, word: str) -> str:
    return f"<span class='word {_WORD[word]}'>{escape(what)}: {escape(word)}</span>"


def _figures(report: dict[str, Any], field: str, title: str) -> Iterator[str]:
    yield f"<h2>{title}</h2><table>"
    yield "<tr><th></th><th>shown</th><th>failed</th><th>not shown</th><th>not applicable</th><th></th></tr>"
    for name, counts in report[field].items():
        numbers = "".join(
            f"<td class=n>{counts[kind] or '·'}</td>" for kind in (SHOWN, FAILED, NOT_SHOWN, NOT_APPLICABLE)
        )
        bar = "".join(
            f"<i class={_CLASS[kind]} style='width:{100 * counts[kind] / counts['all']:.2f}%'></i>"
            for kind in (SHOWN, NOT_APPLICABLE, NOT_SHOWN, FAILED) if counts[kind]
        )  # fmt: skip
        yield f"<tr><td>{escape(name)}</td>{numbers}<td><div class=bar>{bar}</div></td></tr>"
    yield "</table>"


def _verdicts(report: dict[str, Any], register: Mapping[str, Requirement]) -> Iterator[str]:
    yield "<h2>Every requirement, what is red first</h2>"
    for row in sorted(report["verdicts"], key=lambda row: ORDER.index(row["result"])):
        each, kind = register[row["id"]], _CLASS[row["result"]]
        opened = " open" if row["result"] == FAILED else ""
        yield (
            f"<details{opened}><summary><span class=id>{escape(each.id)} <span class=soft>{escape(each.level)}</span></span>"
            f"<span class={kind}>{escape(row['result'])}</span><span>{escape(each.text)}</span></summary>"
            f"<div><p class={kind}>{escape(report['evidence'][each.id])}</p>"
            f"<p class=soft>{escape(each.source)} · asked: {escape(each.check)}"
            + (f" · looked at by <code>{escape(row['check'])}</code>" if row["check"] else "")
            + "</p></div></details>"
        )


def _checklist(report: dict[str, Any]) -> Iterator[str]:
    if not report["checklist"]:
        return
    yield "<h2>The checklist</h2><table>"
    for row in report["checklist"]:
        evidence = report["evidence"][row["id"]]
        cells = f"<td class=n>{escape(row['id'])}</td><td>{escape(row['kind'])}</td><td>{escape(row['item'])}</td>"
        yield f"<tr>{cells}<td class={_CLASS[row['result']]}>{escape(evidence or row['result'])}</td></tr>"
    yield "</table>"


def _level(report: dict[str, Any]) -> Iterator[str]:
    yield "<h2>The level</h2><table>"
    for step in report["level_steps"]:
        kind, word = ("good", "there") if step["met"] else ("open", "missing")
        yield f"<tr><td class=n>{step['level']}</td><td>{escape(step['asks'])}</td><td class={kind}>{word}</td></tr>"
    yield "</table>"


def _deviations(declared: list[dict[str, str]]) -> Iterator[str]:
    yield f"<h2>{len(declared)} declared deviations and interpretations</h2>"
    for each in declared:
        yield (
            f"<details><summary><span class=id>{escape(each['id'])}</span><span class=soft>{escape(each['where'])}</span>"
            f"<span>{escape(each['does'])}</span></summary><div><p>The suite: {escape(each['reads'])}</p>"
            f"<p class=soft>{escape(each['reason'])}</p></div></details>"
        )
