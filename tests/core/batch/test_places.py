"""Plan, read and write paths and URIs; a folder stands in for a bucket."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest
import torch
from helpers import hide_optional_packages, save_noise
from perceptual_style.core.batch import places
from perceptual_style.core.batch.places import Job, is_there, left_out, open_photo, plan_jobs, write_photo
from perceptual_style.core.errors import ImageError, InputError
from perceptual_style.core.images.reading import ImageFile, read_image

OPTIONS = "?region=here"


def noise(path):
    return save_noise(path, 7, 5)


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """Return the folder that stands in for mem://bucket."""
    fs = pytest.importorskip("pyarrow.fs", reason="pyarrow is not installed")

    def from_uri(uri):
        assert "#" not in uri and " " not in uri
        path, mark, options = uri.removeprefix("mem://").partition("?")
        assert mark + options in ("", OPTIONS)
        return fs.SubTreeFileSystem(str(tmp_path / "cloud"), fs.LocalFileSystem()), unquote(path)

    monkeypatch.setattr(places, "_open", from_uri)
    folder = tmp_path / "cloud" / "bucket"
    folder.mkdir(parents=True)
    return folder


def test_paths_are_planned_as_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    noise(tmp_path / "a.png")
    assert plan_jobs(["a.png"], "out.jpg") == [Job("a.png", "out.jpg")]
    assert plan_jobs([(tmp_path / "a.png").as_uri()], "out") == [
        Job(str(tmp_path / "a.png"), str(Path("out", "a.png")))
    ]


def test_jobs_know_whether_target_exists(tmp_path):
    for name in ("in/a.png", "in/b.png", "out/b.png"):
        noise(tmp_path / name)
    jobs = plan_jobs([str(tmp_path / "in")], str(tmp_path / "out"))
    assert [(job.source[-5:], job.new) for job in jobs] == [("a.png", True), ("b.png", False)]
    assert [is_there(job.target) for job in jobs] == [False, True]


def test_photo_given_twice_is_planned_once(tmp_path):
    photo = str(noise(tmp_path / "in" / "a.png"))
    assert len(plan_jobs([photo, str(tmp_path / "in"), photo], str(tmp_path / "out"))) == 1


def test_pictures_that_are_not_read_are_left_out_of_buckets_and_folders(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr("perceptual_style.core.images.folders.reads_heif", lambda: False)
    names = ("a.png", "b.heic", "c/d.CR2", "c/e.mp4", "f.txt", ".hidden/g.heic")
    for name in names:
        for folder in (bucket / "in", tmp_path / "here"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
    for place in ("mem://bucket/in", str(tmp_path / "here"), str(tmp_path / "h*re"), (tmp_path / "here").as_uri()):
        assert [each.name for each in left_out([place])] == ["b.heic", "d.CR2", "e.mp4"], place


@pytest.mark.parametrize("options", ["", OPTIONS])
def test_folder_of_bucket_is_planned_read_and_written(options, bucket):
    for name in ("in/a.png", "in/sub dir/ä #1%.jpg", "in/.hidden/c.png", "in/.d.png", "out/a.png"):
        noise(bucket / name)
    (bucket / "out" / "sub dir").mkdir()  # real buckets do not need this
    (bucket / "in" / "notes.txt").write_text("no photo")
    jobs = plan_jobs([f"mem://bucket/in{options}"], f"mem://bucket/out/{options}")
    assert jobs == [
        Job(f"mem://bucket/in/a.png{options}", f"mem://bucket/out/a.png{options}", new=False),
        Job(
            f"mem://bucket/in/sub%20dir/%C3%A4%20%231%25.jpg{options}",
            f"mem://bucket/out/sub%20dir/%C3%A4%20%231%25.jpg{options}",
        ),
    ]
    for job in jobs:
        with open_photo(job.source) as file:
            image = ImageFile(torch.rand(1, 3, 4, 4))
            assert len(file.read()) > 50
        assert write_photo(job.target, [image]) is None and is_there(job.target)
    assert read_image(bucket / "out" / "sub dir" / "ä #1%.jpg").pixels.shape == (1, 3, 4, 4)


def test_single_object_of_bucket_to_file_folder_and_back(bucket, tmp_path):
    noise(bucket / "a.png")
    file, folder = str(tmp_path / "b.png"), str(tmp_path)
    assert plan_jobs(["mem://bucket/a.png"], file) == [Job("mem://bucket/a.png", file)]
    assert plan_jobs(["mem://bucket/a.png"], folder) == [Job("mem://bucket/a.png", str(tmp_path / "a.png"))]
    noise(tmp_path / "b.png")
    assert plan_jobs([file], "mem://bucket/c.png") == [Job(file, "mem://bucket/c.png")]
    assert plan_jobs([file], "mem://bucket/sub") == [Job(file, "mem://bucket/sub/b.png")]
    with pytest.raises(InputError, match="would be replaced"):
        plan_jobs(["mem://bucket/a.png"], "mem://bucket")
    (bucket / "empty").mkdir()
    with pytest.raises(ImageError, match="mem://bucket/empty has no images"):
        plan_jobs(["mem://bucket/empty"], "mem://bucket/out")


def test_errors_and_warnings_name_the_uri(bucket):
    with (
        pytest.raises(ImageError, match="cannot read mem://bucket/none.png: there is no such file"),
        open_photo("mem://bucket/none.png"),
    ):
        pass
    pixels, alpha = torch.rand(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)
    warning = write_photo(f"mem://bucket/a.jpg{OPTIONS}", [ImageFile(pixels, alpha)])
    assert warning == "mem://bucket/a.jpg: JPEG cannot hold transparency (flattened on white)"
    (bucket / "b.png").mkdir()
    with pytest.raises(ImageError, match=r"cannot write mem://bucket/b\.png: "):
        write_photo("mem://bucket/b.png", [ImageFile(pixels)])


def test_hdfs_files_appear_only_when_complete(bucket, monkeypatch):
    class Hdfs:
        type_name = "hdfs"

        def __init__(self, system):
            self.system, self.moved = system, []

        def open_output_stream(self, path, **options):
            assert path.endswith(".part")
            return self.system.open_output_stream(path, **options)

        def move(self, old, new):
            self.system.move(old, new)
            self.moved.append(new)

    system, _ = places._open("mem://bucket")
    hdfs = Hdfs(system)
    monkeypatch.setattr(places, "_open", lambda uri: (hdfs, "bucket"))
    write_photo("hdfs://host/bucket/a.png", [ImageFile(torch.rand(1, 3, 4, 4))])
    assert hdfs.moved == ["bucket/a.png"]
    assert [path.name for path in bucket.iterdir()] == ["a.png"]


def test_uris_need_pyarrow_and_a_known_scheme(monkeypatch):
    with monkeypatch.context() as context:
        hide_optional_packages(context)
        with pytest.raises(InputError, match=r'the package pyarrow: pip install "perceptual-style\[ray\]"'):
            plan_jobs(["s3://bucket/a.png"], "out.png")
    pytest.importorskip("pyarrow.fs", reason="pyarrow is not installed")
    with pytest.raises(InputError, match="expected a path, or a URI such as s3://bucket/photos"):
        plan_jobs(["nonsense://bucket/a.png"], "out.png")
