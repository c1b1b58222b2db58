import json
from pathlib import Path

import pytest

import service.web
from service.cli.tables import print_hits
from service.retrieval.corpus.reader import Passage
from service.retrieval.defaults import PERHAPS_FROM
from service.retrieval.evidence.table import Evidence
from service.retrieval.hits import Hit

TEXT = "It is high. Tea grows on its slopes. It is cold."
HIT = Hit(1, 0.5, Passage("a", TEXT, "Mountain"), evidence=Evidence(12, 36, 0.8))


def test_the_evidence_of_a_hit_is_bold(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")

    print_hits([HIT], has_relevance=False, as_json=False)

    assert (
        "It is high. \x1b[1mTea grows on its slopes.\x1b[0m It is cold." in capsys.readouterr().out
    )


def test_empty_lines_at_the_end_of_a_text_are_not_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_hits([HIT], has_relevance=False, as_json=False)
    printed = capsys.readouterr().out
    longer = Hit(1, 0.5, Passage("a", f"{TEXT}\n\n", "Mountain"), evidence=Evidence(37, 51, 0.8))

    print_hits([longer], has_relevance=False, as_json=False)

    assert capsys.readouterr().out == printed


def test_json_has_the_evidence_of_each_hit(capsys: pytest.CaptureFixture[str]) -> None:
    hits = [HIT, Hit(2, 0.4, Passage("b", "Sea"), matched=("AA-1",))]
    print_hits(hits, has_relevance=False, as_json=True)

    found = json.loads(capsys.readouterr().out)
    spans = [hit["evidence"] for hit in found["hits"]]
    assert spans == [{"start": 12, "end": 36, "score": 0.8}, None]
    assert [hit["matched"] for hit in found["hits"]] == [[], ["AA-1"]]
    assert found["answered"] is None


@pytest.mark.parametrize(
    ("relevance", "headline"),
    [
        (0.19, "probably not answered here; nearest passages:"),
        (PERHAPS_FROM, "perhaps answered here:"),
        (0.49, "perhaps answered here:"),
        (0.5, ""),
    ],
)
def test_the_headline_says_what_the_page_says_at_the_same_relevance(
    capsys: pytest.CaptureFixture[str], relevance: float, headline: str
) -> None:
    hit = Hit(1, 0.5, HIT.passage, relevance)
    print_hits([hit], has_relevance=True, as_json=False)

    assert capsys.readouterr().out.splitlines()[0].strip() == headline
    [folder] = service.web.__path__
    assert f"fair: {PERHAPS_FROM}," in Path(folder, "results", "hits.js").read_text()
