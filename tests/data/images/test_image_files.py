"""Lists of files, found without opening them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from onnx_oto.data.images import files
from onnx_oto.data.images.files import find, has_images, joined, listed, without_bad
from onnx_oto.errors import StorageError

from .drawing import put


def touched(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_what_is_an_image_is_told_by_its_name_and_everything_is_sorted(tmp_path: Path) -> None:
    touched(
        tmp_path, "b/2.JPG", "b/10.jpeg", "b/1.png", "a/x.webp", "a/notes.txt", "z.TIFF", "b/deep/er/3.bmp"
    )
    found = find(str(tmp_path))
    assert [os.path.relpath(path, tmp_path) for path in found.loose.paths()] == ["z.TIFF"]
    names = {name: [os.path.relpath(p, tmp_path) for p in some.paths()] for name, some in found.below.items()}
    assert names == {"a": ["a/x.webp"], "b": ["b/1.png", "b/10.jpeg", "b/2.JPG", "b/deep/er/3.bmp"]}
    assert (found.left.count, os.path.basename(found.left.first)) == (1, "notes.txt")


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    touched(tmp_path, ".hidden.jpg", "._1.jpg", ".git/a.jpg", "__MACOSX/a.jpg", "a/.DS_Store", "a/1.jpg")
    found = find(str(tmp_path))
    assert list(found.below) == ["a"]
    assert len(found.loose) == found.left.count == 0


def test_links_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    touched(tmp_path, "elsewhere/1.jpg", "root/a/2.jpg")
    (tmp_path / "root/b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root/a/up").symlink_to(tmp_path / "root")
    (tmp_path / "root/a/link.jpg").symlink_to(tmp_path / "elsewhere/1.jpg")
    (tmp_path / "root/a/lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
    found = find(str(tmp_path / "root"))
    assert {n: [os.path.basename(p) for p in f.paths()] for n, f in found.below.items()} == {
        "a": ["2.jpg", "link.jpg", "lost.jpg"],
        "b": ["1.jpg"],
    }


def test_files_without_a_suffix_are_images_where_they_begin_so(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(put(tmp_path / "a/1.jpg").read_bytes())
    (tmp_path / "text").write_text("hello")
    found = find(str(tmp_path))
    assert [found.loose.name(row) for row in range(len(found.loose))] == ["image"]
    assert found.left.first.endswith("text")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names")
def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe")
    assert len(find(str(tmp_path)).loose) == 0


def test_classes_are_sorted_by_letters_or_numbers(tmp_path: Path) -> None:
    touched(
        tmp_path,
        "n/10/a.jpg",
        "n/9/a.jpg",
        "n/007/a.jpg",
        "t/b/a.jpg",
        "t/B/a.jpg",
        "t/10/a.jpg",
        "t/9/a.jpg",
    )
    assert find(str(tmp_path / "n")).classes == ("007", "9", "10")
    assert find(str(tmp_path / "t")).classes == ("10", "9", "B", "b")


def test_no_image_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched(tmp_path, *(f"{name}/{i}.jpg" for name in "ab" for i in range(5)))
    monkeypatch.setattr("builtins.open", lambda *args, **kwargs: pytest.fail("opened"))
    assert sum(map(len, find(str(tmp_path)).below.values())) == 10


def test_looking_for_the_first_image_does_not_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched(tmp_path, *(f"{i:03d}/a.jpg" for i in range(50)))
    seen = []
    real = files._entries
    monkeypatch.setattr(files, "_entries", lambda *args, **more: seen.append(args[0]) or real(*args, **more))
    assert has_images(str(tmp_path))
    assert len(seen) == 2
    (tmp_path / "empty").mkdir()
    assert not has_images(str(tmp_path / "empty"))


def test_names_of_any_bytes(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    try:
        touched(tmp_path, name, "größe.png")
    except OSError:
        pytest.skip("this file system takes no such names")
    found = find(str(tmp_path)).loose
    assert sorted(found.name(row) for row in range(2)) == sorted([name, "größe.png"])
    assert all(os.path.exists(path) for path in found.paths())


def test_lists_joined_and_chosen() -> None:
    one, two = listed([("f", ["a", "bb"]), ("g", [])]), listed([("h", ["ccc"]), ("f", ["d"])])
    both = joined([one, two])
    assert list(both.paths()) == ["f/a", "f/bb", "h/ccc", "f/d"]
    assert list(both.chosen(np.array([3, 1])).paths()) == ["f/d", "f/bb"]
    assert len(both.chosen(np.zeros(0, np.int64))) == len(joined([])) == 0


def test_bad_files_are_found_on_any_number_of_threads(tmp_path: Path) -> None:
    for i in range(9):
        put(tmp_path / f"{i}.jpg", 40, 40)
    (tmp_path / "4.jpg").write_bytes((tmp_path / "4.jpg").read_bytes()[:400])
    (tmp_path / "7.jpg").unlink()
    (tmp_path / "7.jpg").symlink_to("nowhere")
    good, faults = without_bad(find(str(tmp_path)).loose)
    assert good.tolist() == [0, 1, 2, 3, 5, 6, 8]
    assert [fault.partition("' ")[0].rpartition("/")[2] for fault in faults] == [
        "4.jpg",
        "7.jpg': No such file or directory",
    ]


def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read .*nothing"):
        find(str(tmp_path / "nothing"))
