"""``comply coverage``: which requirements are shown by tests, by live checks, or said not to apply; by document and domain."""

from __future__ import annotations

from femtoclaw.cli.render import Output


def coverage(output: Output) -> int:
    """0 when every seed requirement has a test, a check or a reason and every domain has tests; 1 otherwise."""
    from femtoclaw.compliance.coverage import count, gaps

    body = {"documents": count("document"), "domains": count("domain"), "gaps": gaps()}
    output.data(body)
    for title in ("documents", "domains"):
        output.line(f"{title[:-1]:<32}{'all':>6}{'must':>6}{'test':>6}{'check':>7}{'reason':>8}{'open':>6}", "bold")
        for name, row in body[title].items():
            text = f"{name:<32}{row['all']:>6}{row['must']:>6}{row['test']:>6}{row['check']:>7}{row['reason']:>8}{row['open']:>6}"
            output.line(text, "yellow" if row["open"] else "")
        output.line()
    seeds, empty = body["gaps"]["seed"], body["gaps"]["domains"]
    if seeds:
        output.line(f"seed requirements without test, check and reason: {', '.join(seeds)}", "red")
    if empty:
        output.line(f"domains without a test: {', '.join(empty)}", "red")
    return 1 if seeds or empty else 0
