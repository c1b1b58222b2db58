"""The tables of the page, and the sentence that it begins with."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.data.languages import in_words
from trainer.evaluation.measures import MAIN, NAMES
from trainer.report.plots import label_of

Content = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the page; a row that starts with `macro mean` is set off."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


def summary(evaluations: Sequence[Content]) -> Table:
    """Return the macro means of nDCG@10: a row per set and direction, a column per encoder."""
    rows = [
        [f"{set_name}, {direction}"]
        + [f"{_macro(each, set_name, direction):.4f}" for each in evaluations]
        for set_name, directions in evaluations[0]["sets"].items()
        for direction in directions
    ]
    headings = ["nDCG@10, macro mean", *(label_of(each) for each in evaluations)]
    return Table(headings, rows)


def _macro(evaluation: Content, set_name: str, direction: str) -> float:
    return float(evaluation["sets"][set_name][direction]["macro_mean"]["ndcg@10"])


def measures(evaluation: Content, set_name: str, direction: str, order: Sequence[str]) -> Table:
    """Return an encoder's measures, a row per language, with the interval of the main one."""
    group = evaluation["sets"][set_name][direction]
    keys = list(group["macro_mean"])
    languages = [language for language in order if language in group["languages"]]
    rows = []
    for language in languages:
        values = group["languages"][language]
        low, high = values[f"{MAIN}_interval"]
        shown = [f"{values[key]:.4f}" for key in keys]
        shown.insert(keys.index(MAIN) + 1, f"{low:.4f} to {high:.4f}")
        rows.append([in_words(language), str(values["num_queries"]), *shown])
    names = [NAMES[key] for key in keys]
    names.insert(keys.index(MAIN) + 1, "95 % interval")
    if len(rows) > 1:
        count = sum(values["num_queries"] for values in group["languages"].values())
        means = [f"{group['macro_mean'][key]:.4f}" for key in keys]
        means.insert(keys.index(MAIN) + 1, "")
        rows.append(["macro mean", str(count), *means])
    return Table([label_of(evaluation), "queries", *names], rows)


def differences(comparison: Content, set_name: str, direction: str, order: Sequence[str]) -> Table:
    """Return each language's difference from the base, with its interval and p-values."""
    found = {
        each["task"]["language"]: each
        for each in comparison["languages"]
        if (each["task"]["set_name"], each["task"]["direction"]) == (set_name, direction)
    }
    rows = [
        [*_difference(in_words(name), found[name])]
        + [f"{found[name]['p']:.4f}", f"{found[name]['p_holm']:.4f}"]
        for name in order
        if name in found
    ]
    if len(rows) > 1:
        rows += [
            [*_difference("macro mean", each), "", ""]
            for each in comparison["macro_means"]
            if (each["set_name"], each["direction"]) == (set_name, direction)
        ]
    headings = ["language", comparison["base"], comparison["encoder"], "difference"]
    return Table([*headings, "95 % interval", "p", "p (Holm)"], rows)


def _difference(name: str, each: Content) -> list[str]:
    return [
        name,
        f"{each['base']:.4f}",
        f"{each['value']:.4f}",
        f"{each['difference']:+.4f}",
        f"{each['interval']['low']:+.4f} to {each['interval']['high']:+.4f}",
    ]


def conditions(evaluations: Sequence[Content]) -> Table:
    rows = [
        [
            label_of(each),
            each["encoder"]["fingerprint"][:16],
            each["encoder"]["passage_fingerprint"][:16],
            str(each["encoder"]["max_tokens"]),
            each["encoder"]["device"],
            each["encoder"]["runtime"],
        ]
        for each in evaluations
    ]
    headings = ["encoder", "fingerprint", "of passages", "tokens", "device", "runtime"]
    return Table(headings, rows)


def verdict(content: Content) -> str:
    """Return what the report shows, in a sentence: the gates, and the differences from the base."""
    encoder = label_of(content["evaluations"][0])
    if not content["comparisons"]:
        return f"{encoder} was measured; there is no base to compare it with."
    comparison = content["comparisons"][0]
    gates = [*comparison["english_gates"], *content.get("gates", [])]
    num_failed = sum(not gate["passes"] for gate in gates)
    passed = f"{num_failed} of {len(gates)} gates failed" if num_failed else "passes every gate"
    counts = [0, 0, 0]  # better, worse, no difference shown
    for each in comparison["languages"]:
        low, high = each["interval"]["low"], each["interval"]["high"]
        counts[0 if low > 0 else 1 if high < 0 else 2] += 1
    better, worse, same = counts
    return (
        f"{encoder} {'does not pass: ' if num_failed else ''}{passed}. Against "
        f"{comparison['base']} it is better in {better}, worse in {worse}, and not shown to "
        f"differ in {same} of {sum(counts)} languages and directions (95 % intervals)."
    )


def worst_tables(content: Content) -> Iterator[tuple[str, Table]]:
    """Yield a title and a table of each language's worst questions; none in older reports."""
    for each in content.get("worst", []):
        rows = [
            [question["query"], question["first"], f"{question[MAIN]:.3f}"]
            for question in each["questions"]
        ]
        title = f"{each['set']}, {in_words(each['language'])}"
        yield title, Table(["question", "what came first", NAMES[MAIN]], rows)


def making(content: Content) -> Table:
    """Return when, how and with what the report was made; passages by set and language."""
    made = content.get("made", {})
    rows = [[name, str(value)] for name, value in made.items()]
    for name, by_language in content["evaluations"][0]["num_passages"].items():
        counts = ", ".join(f"{in_words(each)} {count:,}" for each, count in by_language.items())
        rows.append([f"passages of {name}", counts])
    return Table(["made", ""], rows)
