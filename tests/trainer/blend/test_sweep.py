import json
from pathlib import Path

import pytest

from service.retrieval.encoder.encoder import Encoder
from service.retrieval.encoder.loader import load_encoder
from trainer.blend.curve import Gates, Scores
from trainer.blend.sweep import run_blend
from trainer.blend.weights import open_pair
from trainer.errors import OutputError
from trainer.report.run import EncoderOptions


def test_a_run_writes_curve_plot_and_the_chosen_blend(
    tmp_path: Path, tiny_checkpoint: Path, tuned_checkpoint: Path, tiny_encoder: Encoder
) -> None:
    pair = open_pair(str(tiny_checkpoint), str(tuned_checkpoint), tmp_path)
    shares: dict[float, Encoder] = {}
    reports: list[tuple[str, int, int | None, str]] = []

    def measure(encoder: Encoder) -> Scores:
        share = len(shares) / 4
        shares[share] = encoder
        return {"dev": {"en": 0.9 - 0.008 * share, "sw": 0.5 + 0.1 * share}}

    curve = run_blend(
        pair,
        (str(tiny_checkpoint), str(tuned_checkpoint)),
        [0.25, 0.5, 0.75, 1.0],
        EncoderOptions("cpu", 64, cache=tmp_path),
        measure,
        Gates(english_margin=0.005),
        tmp_path / "out",
        lambda stage, done, total, facts="": reports.append((stage, done, total, facts)),
    )

    assert [report[:3] for report in reports] == [
        ("load", 0, None),
        *(("blend", done, 5) for done in range(5)),
    ]
    assert reports[-1][3] == "share 0.75: 0.5750"
    assert curve.chosen.share == 0.5
    written = json.loads((tmp_path / "out/curve.json").read_text())
    assert [point["share"] for point in written["points"]] == [0, 0.25, 0.5, 0.75, 1]
    assert written["chosen_share"] == 0.5
    assert (tmp_path / "out/curve.svg").read_text().startswith("<svg")
    chosen = load_encoder(str(tmp_path / "out/adapter"), device="cpu")
    assert chosen.fingerprint == shares[0.5].fingerprint
    description = json.loads((tmp_path / "out/adapter/adapter.json").read_text())
    assert description["metrics"] == {"dev": {"en": pytest.approx(0.896), "sw": 0.55}}


def test_an_existing_folder_is_not_written_to(
    tmp_path: Path, tiny_checkpoint: Path, tuned_checkpoint: Path
) -> None:
    pair = open_pair(str(tiny_checkpoint), str(tuned_checkpoint), tmp_path)

    with pytest.raises(OutputError, match="name a new folder"):
        run_blend(
            pair,
            ("a", "b"),
            [1.0],
            EncoderOptions(cache=tmp_path),
            lambda encoder: {},
            Gates(),
            tmp_path,
        )
