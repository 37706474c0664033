"""The report: ours beside the published, from what the verbs really write; bad files by name; nothing unescaped."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import report as module
from bench import results as module_results
from bench.report import main, report
from convcut_trt.errors import InputError
from export.ablation_tables import Tables, summary
from export.metrics import FIGURES, measure

EVIL = "<script>alert('x')</script>"


def evaluation(**changes: Any) -> dict[str, Any]:
    """What ``evaluate --json`` writes: 200 faces of the official set, three in four right; 100 clean ones."""
    labels = np.arange(200) % 8
    probabilities = np.full((200, 8), 0.05, np.float32)
    answers = np.where(np.arange(200) % 4 == 3, (labels + 1) % 8, labels)
    probabilities[np.arange(200), answers] = 0.65
    shares = np.eye(8, dtype=np.float32)[labels]
    sets = {
        name: measure(probabilities[:count], labels[:count], shares[:count])
        for name, count in (("official", 200), ("clean", 100))
    }
    return {
        "schema": 1,
        "model": "runs/conv-cut-mini/model.safetensors",
        "sha256": "0123456789abcdef" * 4,
        "data": "FERPlus (npz)",
        "split": "test",
        "classes": [str(k) for k in range(8)],
        **sets,
        **changes,
    }


def ablation(**changes: Any) -> dict[str, Any]:
    """What ``ablate`` writes, with two seeds; attention across the batch gains 20 points by class."""
    tables = Tables.around("spatial", ((3, 1), (2, 2)))
    results = []
    for row in tables.rows:
        for seed in (0, 1):
            accuracy = 0.5 + 0.1 * len(row.detail) + 0.01 * seed + 0.005 * (row.attention != "none")
            figures = dict.fromkeys(FIGURES, accuracy)
            gain = 0.2 if row.attention == "batch" else 0.0
            results.append(
                {
                    "row": row.name,
                    "attention": row.attention,
                    "seed": seed,
                    "positions": 25,
                    "clean": figures,
                    "official": figures,
                    "orders": {
                        "sorted": {"accuracy": accuracy + gain},
                        "shuffled": {"accuracy": accuracy},
                    },
                    "order_difference": gain,
                }
            )
    return {
        "schema": 1,
        "data": {"name": "FERPlus (npz)"},
        "summary": summary(results, tables),
        "differences": ["The trunk is frozen.", f"{EVIL} was not trained."],
        **changes,
    }


class Page(HTMLParser):
    """Text, tables and everything that a browser would load or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.links: list[str] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self.in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self.loads += [values[key] or "" for key in ("src", "data", "srcset") if key in values]
        if tag == "link":
            self.loads.append(values["href"] or "")
        if tag == "a":
            self.links.append(values["href"] or "")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True
        assert not any(key.startswith("on") for key in values)

    def handle_endtag(self, tag: str) -> None:
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.in_cell:
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        """All that can be read."""
        return " ".join(" ".join(self.words).split())

    def row(self, *start: str) -> list[str]:
        """The one row that starts with these cells."""
        (found,) = (row for row in self.rows if row[: len(start)] == list(start))
        return found


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder with one evaluation and one ablation."""
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "mini.json").write_text(json.dumps(evaluation()))
    (folder / "ablation.json").write_text(json.dumps(ablation()))
    return folder


def figures(folder: Path, **changes: Any) -> Path:
    """What ``explain`` writes, one figure."""
    folder.mkdir()
    (folder / "grad-cam.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    entry = {"file": "grad-cam.svg", "paper": "figure 5", "caption": EVIL, "numbers": {}}
    content = {"schema": 1, "figures": {"grad-cam": entry | changes}}
    (folder / "explain.json").write_text(json.dumps(content))
    return folder


def test_table_1_has_every_method_with_its_figures_and_source() -> None:
    page = Page(report(module.RESULTS, None))
    assert page.row("Conv-cut", "97.33", "95.69")[3] == "claimed"
    assert page.row("PAtt-Lite", "95.05", "93.72")[3] == "re-run by the paper's authors"
    for method in [
        "POSTER",
        "CEPrompt",
        "APViT",
        "MGR3Net",
        "EAC",
        "CLEF",
        "LNSU-Net",
        "DMUE",
        "VTFF",
    ]:
        assert page.row(method)[3] == "quoted by the paper"
    assert page.row("MGR3Net", "91.05", "–")[4] == "not found"
    assert page.row("EAC", "90.35", "90.05")[4].startswith("ECCV 2022")
    assert "is a strong inference, not a proof" in page.text


def test_ours_stand_beside_with_rule_split_and_interval(results: Path) -> None:
    page = Page(report(results, None))
    ours = [row for row in page.rows if row[0] == "conv-cut-mini"]
    # 75 of 100: Wilson's interval is 65.7 to 82.5.
    assert ours[0][:3] == ["conv-cut-mini", "–", "75.00 [65.7, 82.5]"]
    assert ours[0][3] == (
        "ours, measured: clean test, 100 images, 8 classes, majority of the votes"
    )
    assert ours[1][2] == "75.00 [68.6, 80.5]"
    assert "official test, 200 images" in ours[1][3]
    assert "mini.json" in ours[0][4]
    assert "0123456789ab" in ours[0][4]
    assert "yet to be measured" not in page.text


@pytest.mark.parametrize(
    ("independent", "words"),
    [(True, "the same in any order of the test set"), (False, "other answers in batches")],
)
def test_the_batch_order_test_is_part_of_the_rule(
    independent: bool, words: str, results: Path
) -> None:
    measured = evaluation(batch_order={"independent": independent, "orders": {}})
    (results / "mini.json").write_text(json.dumps(measured))
    rows = [row for row in Page(report(results, None)).rows if row[0] == "conv-cut-mini"]
    assert len(rows) == 2
    assert all(words in row[3] for row in rows)


def test_data_that_the_paper_does_not_have_get_a_table_of_their_own(results: Path) -> None:
    (results / "mini.json").write_text(json.dumps(evaluation(data="my faces", model="a/b.onnx")))
    page = Page(report(results, None))
    assert page.row("b", "my faces", "clean test")[3:] == ["100", "75.0%", "65.7% to 82.5%"]
    assert "yet to be measured" in page.text


def test_ablations_stand_beside_the_papers_tables(results: Path) -> None:
    page = Page(report(results, None))
    second = [row for row in page.rows if row[:2] == ["batch", "2"]][0]
    # Two seeds, 0.705 and 0.715: half of the t interval is 12.706 * 0.00707 / sqrt(2).
    assert second == ["batch", "2", *["71.0 ± 6.4"] * 3, "+0.5 ± 0.0", "97.33", "95.69"]
    none = [row for row in page.rows if row[:2] == ["none", "2"]][0]
    assert none[2:] == [*["70.5 ± 6.4"] * 3, "–", "84.24", "82.46"]
    third = [row for row in page.rows if row[:2] == ["spatial", "2"] and row[-1] == "94.69"][0]
    assert third[2:] == [*["71.0 ± 6.4"] * 3, "97.33", "94.69"]
    orders = [row for row in page.rows if row[:2] == ["batch", "2"]][1]
    assert orders[2:] == ["71.0 ± 6.4", "71.0 ± 6.4", "91.0 ± 6.4", "+20.0 ± 0.0"]
    assert "The trunk is frozen." in page.text


def test_one_seed_has_no_interval(results: Path) -> None:
    changed = ablation()
    for row in changed["summary"]["table_2"]:
        row["clean_accuracy"] = {"mean": 0.5, "half_width": None, "seeds": 1}
    (results / "ablation.json").write_text(json.dumps(changed))
    assert Page(report(results, None)).row("none", "0", "50.0")


def test_without_results_every_section_says_what_makes_them(tmp_path: Path) -> None:
    text = Page(report(tmp_path, None)).text
    for command in ("evaluate", "ablate", "explain"):
        assert f"convcut-trt {command} runs/NAME/model.safetensors --data" in text


def test_the_page_loads_nothing_runs_nothing_and_escapes_everything(
    results: Path, tmp_path: Path
) -> None:
    evil = evaluation(model=f"{EVIL}.onnx", data=f"FERPlus {EVIL}", split=EVIL)
    (results / f"{EVIL.replace('/', '')}.json").write_text(json.dumps(evil))
    text = report(results, figures(tmp_path / "figures"))
    page = Page(text)
    assert "script" not in page.tags
    assert "alert('x')" in page.text
    icon, figure = page.loads
    assert icon == "data:,"
    assert figure.startswith("data:image/svg+xml;base64,")
    assert page.links
    assert all(link.startswith(("https://", "#")) for link in page.links)
    assert "@import" not in text
    assert "url(" not in text
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    assert "The paper's figure 5." in page.text


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("latency.json", {"schema": 4, "samples": []}, "no result of this project"),
        ("empty.json", {}, "no result of this project"),
        ("old.json", evaluation(schema=0), "schema 0, and this version reads 1"),
        ("none.json", evaluation(schema=None), "schema None, and this version reads 1"),
        ("bench.json", {"schema": 7, "measured": [], "compared": []}, "schema 7, and"),
        ("roofs.json", {"schema": 2, "parts": {}}, "schema 2, and"),
    ],
)
def test_files_of_another_kind_or_schema_are_left_out_and_named(
    name: str,
    values: dict[str, Any],
    why: str,
    results: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (results / name).write_text(json.dumps(values))
    text = Page(report(results, None)).text
    assert f"{name} is left out: {why}" in capsys.readouterr().err
    assert f"Files that are left out {name}: {why}" in text


def _spoilt(**changes: Any) -> Callable[[Path], Any]:
    return lambda results: (results / "mini.json").write_text(json.dumps(evaluation(**changes)))


def _folder(results: Path) -> None:
    (results / "mini.json").unlink()
    (results / "mini.json").mkdir()


BAD: dict[str, Callable[[Path], Any]] = {
    "cut off": lambda results: (results / "mini.json").write_text('{"schema": 1, "off'),
    "binary": lambda results: (results / "mini.json").write_bytes(b"\xff\xfe\x00"),
    "a list": lambda results: (results / "mini.json").write_text("[1]"),
    "deep": lambda results: (results / "mini.json").write_text("[" * 100_000),
    "a folder": _folder,
    "no accuracy": _spoilt(clean={"images": 3}),
    "not a share": _spoilt(
        clean={"images": 3, "accuracy": 75.0, "accuracy_interval": [65.7, 82.5]}
    ),
    "outside its interval": _spoilt(
        clean={"images": 3, "accuracy": 0.5, "accuracy_interval": [0.6, 0.7]}
    ),
    "not a number": _spoilt(
        clean={"images": 3, "accuracy": float("nan"), "accuracy_interval": [0.6, 0.7]}
    ),
    "half a character": _spoilt(model="runs/\ud800.onnx"),
    "half a character in a name": lambda results: (results / "mini.json").write_text(
        json.dumps({**evaluation(), "clean": {**evaluation()["clean"], "\udfff": 1}})
    ),
    "an ablation without tables": lambda results: (results / "mini.json").write_text(
        json.dumps(ablation(summary={}))
    ),
}


@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD.keys())
def test_a_bad_result_is_refused_by_name(spoil: Callable[[Path], Any], results: Path) -> None:
    spoil(results)
    with pytest.raises(InputError, match="mini.json"):
        report(results, None)


@pytest.mark.parametrize("kind", module_results.MEASURED)
def test_half_a_character_in_any_file_is_refused_by_name(kind: str, results: Path) -> None:
    (results / f"{kind}.json").write_text(json.dumps({"schema": 1, "device": "\ud800"}))
    with pytest.raises(InputError, match=rf"{kind}\.json cannot be read.*no Unicode"):
        report(results, None)


@pytest.mark.parametrize("name", ["../secret.svg", "/etc/hostname", "missing.svg"])
def test_figures_come_from_their_folder_alone(name: str, results: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.svg").write_text("secret")
    with pytest.raises(InputError, match="cannot be read"):
        report(results, figures(tmp_path / "figures", file=name))


def test_figures_that_are_not_there_are_named(results: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"explain\.json cannot be read"):
        report(results, tmp_path)


def test_the_verb_writes_the_page(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out.html"
    assert main(["--results", str(results), "-o", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(path)}
    assert path.read_text(encoding="utf-8") == report(results, None)
    assert main(["--results", str(results), "-o", str(path)]) == 0
    assert capsys.readouterr().out.strip() == str(path)


@pytest.mark.parametrize("place", ["nowhere/report.html", ".", "file/report.html"])
def test_a_place_that_cannot_be_written_is_named(place: str, results: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="could not be written"):
        main(["--results", str(results), "-o", str(tmp_path / place)])


def test_a_folder_of_results_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        main(["--results", str(tmp_path / "nowhere"), "-o", str(tmp_path / "x.html")])
