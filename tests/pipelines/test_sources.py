"""Official layouts must become raw folders with their subjects, byte for byte; anything else must be refused."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UserError
from pipelines.params import read_params
from pipelines.sources.__main__ import main
from pipelines.sources.cnmc import Uid, parse
from pipelines.sources.raw_folder import CLASS_FOLDERS
from pipelines.validate import validate_folder
from tests.pipelines.damages import Damage, change, files_below
from tests.pipelines.image_samples import picture

ROOT = Path(__file__).parents[2]
CODES = {"basophil": "BA", "erythroblast": "ERB", "monocyte": "MO", "myeloblast": "MYO", "seg_neutrophil": "NGS",
         "eosinophil": "EO", "ig": "MMY", "lymphocyte": "LY", "neutrophil": "SNE", "platelet": "PLATELET"}  # fmt: skip
LABELS = "C-NMC_test_prelim_phase_data_labels.csv"


def put(path: Path, *seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(*seed).save(path)
    return path


def training(origin: Path) -> Path:
    return origin / "PKG - C-NMC 2019" / "C-NMC_training_data"


def write_class_folders(folder: Path, classes: tuple[str, ...]) -> Path:
    """Write a stand-in of the layouts with a folder a class."""
    for code, label in enumerate(classes):
        for number in range(3):
            put(folder / label / f"{CODES[label]}_{100 * number + code}.jpg", code, number)
    return folder


def write_cnmc(folder: Path) -> Path:
    """Write a stand-in of C-NMC: in each fold two subjects of each label, and four images of the test phase."""
    for subject in range(1, 7):
        for number in (1, 2):
            train = training(folder) / f"fold_{(subject - 1) // 2}"
            put(train / "all" / f"UID_{subject}_{number}_1_all.bmp", 1, subject, number)
            h = "h" if subject == 3 and number == 2 else "H"  # as in the real set
            put(train / "hem" / f"UID_{h}{subject}_{number}_1_hem.bmp", 2, subject, number)
    rows = ["Patient_ID,new_names,labels"]
    for number, name in enumerate(("57_29_1_all", "57_22_2_all", "H49_35_1_hem", "H30_6_2_hem"), start=1):
        put(training(folder).with_name("C-NMC_test_prelim_phase_data") / f"{number}.bmp", 3, number)
        rows.append(f"UID_{name}.bmp,{number}.bmp,{int(name.endswith('all'))}")
    training(folder).with_name(LABELS).write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    return write_cnmc(tmp_path / "origin")


def run(layout: str, origin: Path, out: Path, *more: str) -> None:
    main(["--layout", layout, "--from", str(origin), "--out", str(out), *more])


# Folders of classes.


@pytest.mark.parametrize("layout", CLASS_FOLDERS)
@pytest.mark.parametrize("inside", ["", "PBC_dataset/PBC_dataset"], ids=["plain", "unpacked twice"])
def test_class_folders_are_copied_but_for_systems_files(layout: str, inside: str, tmp_path: Path, out: Path) -> None:
    folder = write_class_folders(tmp_path / "origin" / inside, CLASS_FOLDERS[layout][1])
    images = {f"images/{name}": data for name, data in files_below(folder).items()}
    shutil.copytree(folder, folder / "__MACOSX" / "set")
    for left in (".DS_Store", "._MO_2.jpg", "Thumbs.db", "desktop.ini"):
        (folder / "monocyte" / left).write_bytes(b"x")
    before = files_below(tmp_path / "origin")
    run(layout, tmp_path / "origin", out)
    assert files_below(out) == images and len(images) == 3 * len(CLASS_FOLDERS[layout][1])
    assert files_below(tmp_path / "origin") == before
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_an_image_named_as_those_of_another_class_is_told(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_class_folders(tmp_path / "origin", CLASS_FOLDERS["pbc"][1])
    for number in range(10):
        put(folder / "monocyte" / f"MO_{number}.jpg", 1, number)
    run("pbc", folder, out)
    assert "warning" not in capsys.readouterr().out
    put(folder / "ig" / "MO_5.jpg", 99)
    run("pbc", folder, out.with_name("other"))
    assert "1 images are named as those of another class: 'ig/MO_5.jpg'" in capsys.readouterr().out


def parts(folder: Path) -> None:
    for path in list(folder.iterdir()):
        for part in ("train", "test"):
            shutil.copytree(path, folder / part / path.name)
        shutil.rmtree(path)


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


CLASS_FAULTS: dict[str, tuple[Damage, str]] = {
    "a class is missing": (lambda f: shutil.rmtree(f / "monocyte"), "is not laid out as .* lacks .* 'monocyte'"),
    "an archive": (lambda f: [f.rename(f.with_name("moved")), f.write_bytes(b"PK")], "is a file; unpack it"),
    "a class is empty": (lambda f: emptied(f / "monocyte"), "monocyte: is empty"),
    "a class too many": (lambda f: put(f / "artefact" / "ART_1.jpg", 1), "'artefact' is no class"),
    "another name": (lambda f: put(f / "monocyte" / "copy of MO_1.jpg", 1), "'monocyte/copy of MO_1.jpg' is not named"),
    "parts for training and testing": (parts, "test', '.*train' are both laid out as .* name one"),
    "no folder": (shutil.rmtree, "no such folder"),
}


# C-NMC.


def test_folds_and_test_phase_become_one_valid_folder_with_the_subjects_of_the_names(origin: Path, out: Path) -> None:
    run("cnmc", origin, out, "--test")
    table = pd.read_csv(out / "images.csv", dtype=str).set_index("file")
    assert table["part"].value_counts().to_dict() == {"fold_0": 8, "fold_1": 8, "fold_2": 8, "test": 4}
    assert table.loc["all/UID_5_2_1_all.bmp"].to_dict() == {"label": "all", "subject_id": "5", "part": "fold_2"}
    assert table.loc["hem/UID_H4_1_1_hem.bmp"].to_dict() == {"label": "hem", "subject_id": "H4", "part": "fold_1"}
    subjects = table["subject_id"]
    assert subjects["hem/UID_h3_2_1_hem.bmp"] == subjects["hem/UID_H3_1_1_hem.bmp"] == "H3"
    assert subjects["all/UID_3_1_1_all.bmp"] == "3"  # somebody else
    assert (subjects["all/UID_57_22_2_all.bmp"], subjects["hem/UID_H30_6_2_hem.bmp"]) == ("57", "H30")
    for file, part in table[table["part"] != "test"]["part"].items():
        assert (out / "images" / str(file)).read_bytes() == (training(origin) / part / str(file)).read_bytes()
    phase = training(origin).with_name("C-NMC_test_prelim_phase_data")
    assert (out / "images/hem/UID_H49_35_1_hem.bmp").read_bytes() == (phase / "3.bmp").read_bytes()
    task = read_params(ROOT / "params.yaml").task("leukemia_cell")
    assert [str(finding) for finding in validate_folder(out, "leukemia_cell", task).findings] == []


@pytest.mark.parametrize("twin", ["UID_1_1_1_all.bmp", "UID_H3_2_1_hem.bmp"], ids=["same", "but for a capital"])
def test_names_that_stand_in_two_folds_get_the_fold_before_them(twin: str, origin: Path, out: Path) -> None:
    label = twin.split("_")[-1].removesuffix(".bmp")
    put(training(origin) / "fold_2" / label / twin, 99)
    run("cnmc", origin, out)
    table = pd.read_csv(out / "images.csv", dtype=str)
    assert len(table) == len(files_below(out / "images")) == 25 and table["file"].str.casefold().is_unique
    assert table.loc[table["file"] == f"{label}/fold_2_{twin}", "part"].tolist() == ["fold_2"]
    assert table["file"].str.contains("fold_").sum() == 2


def move(old: str, new: str) -> Damage:
    return lambda o: (training(o) / old).rename(training(o) / new)


CNMC_FAULTS: dict[str, tuple[Damage, str]] = {
    "a fold is missing": (lambda o: shutil.rmtree(training(o) / "fold_1"), "is not laid out as C-NMC"),
    "another name": (move("fold_0/all/UID_1_1_1_all.bmp", "fold_0/all/1.bmp"), "1.bmp: is not named"),
    "another class": (move("fold_0/all/UID_1_1_1_all.bmp", "fold_0/hem/UID_1_1_1_all.bmp"), "says all and is in hem"),
    "no table": (lambda o: training(o).with_name(LABELS).unlink(), "holds no C-NMC_test_prelim_phase_data_labels.csv"),
    "label against name": (change(LABELS, "29_1_all.bmp,1.bmp,1", "29_1_all.bmp,1.bmp,0"), "label 0"),
    "the set twice": (lambda o: shutil.copytree(training(o), o / "Z" / "train"), "are both laid out as .* name one of"),
    "listed twice": (change(LABELS, ",2.bmp", ",1.bmp"), "names an image twice"),
    "not listed": (change(LABELS, "UID_H30_6_2_hem.bmp,4.bmp,0\n", ""), "'4.bmp': is in one"),
    "named twice": (change(LABELS, "UID_57_22_2", "UID_57_29_1"), "two images have this name"),
    "no name": (change(LABELS, "UID_57_29_1_all.bmp,", ","), "column Patient_ID, row 1: is empty"),
}  # fmt: skip


@pytest.mark.parametrize("fault", [*CLASS_FAULTS, *(f"C-NMC: {fault}" for fault in CNMC_FAULTS)])
def test_another_layout_and_one_that_contradicts_itself_leave_nothing(fault: str, tmp_path: Path, out: Path) -> None:
    cnmc, origin = fault.startswith("C-NMC: "), tmp_path / "origin"
    damage, says = CNMC_FAULTS[fault.removeprefix("C-NMC: ")] if cnmc else CLASS_FAULTS[fault]
    damage(write_cnmc(origin) if cnmc else write_class_folders(origin, CLASS_FOLDERS["pbc"][1]))
    with pytest.raises(UserError, match=says):
        run("cnmc" if cnmc else "pbc", origin, out, *(["--test"] if cnmc else []))
    assert not out.parent.exists() or (cnmc and list(out.parent.iterdir()) == [])


digits = st.text("0123456789", min_size=1, max_size=6)


@given(st.sampled_from(["", "H", "h"]), digits, digits, digits, st.sampled_from(["all", "hem"]))
def test_every_name_of_the_layout_parses(h: str, subject: str, image: str, cell: str, label: str) -> None:
    uid = parse(f"UID_{h}{subject}_{image}_{cell}_{label}.bmp")
    assert uid == Uid(f"{h.upper()}{int(subject)}", int(image), int(cell), label)


@given(st.one_of(st.text(), st.from_regex(r"UID_[Hh]?\w*_\w*_\w*_(all|hem)\.bmp\n?", fullmatch=True)))
def test_any_other_name_is_refused_in_a_line_that_names_it(name: str) -> None:
    try:
        uid = parse(name)
    except UserError as error:
        assert str(error).startswith(f"{name}: ")
    else:
        assert name.lower() == f"uid_{name.split('_')[1]}_{'_'.join(name.split('_')[2:])}".lower()
        assert name.isascii() and uid.label in ("all", "hem") and uid.subject.strip("H").isdigit()


def test_what_is_there_is_refused(origin: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("cnmc", origin, out)
    assert "24 images (12 all, 12 hem)" in capsys.readouterr().out
    before = files_below(out)
    with pytest.raises(UserError, match="is there already"):
        run("cnmc", origin, out)
    assert files_below(out) == before
