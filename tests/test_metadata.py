"What a package index, Colab and a reader of the repository see: built, read, and followed."

import json
import pytest
import re
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from real import ROOT
from test_app import wheel  # noqa: F401

sys.path.insert(0, str(ROOT / "tools"))
import readme  # noqa: E402
from addresses import GUIDES, LINK, absolute_links, badges, on_github, project_urls, settings  # noqa: E402

REAL, PLACEHOLDER = "https://github.com/someone/vidprism", "https://example.org/vidprism"
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "PROMISES.md")
NO_ADDRESSES = ("", PLACEHOLDER, "http://localhost:8000/x", "https://www.example.com", "ftp://github.com/a/b", "None")


@pytest.fixture(scope="module")
def described(wheel):  # noqa: F811
    "The wheel's METADATA."
    with zipfile.ZipFile(wheel) as packed:
        name = next(n for n in packed.namelist() if n.endswith(".dist-info/METADATA"))
        return Parser().parsestr(packed.read(name).decode())


def test_the_index_is_told_what_this_is(described):
    told = described.get_all("Classifier")
    starts = ("Development Status", "License", "Operating System", "Programming Language", "Framework", "Topic")
    assert [start for start in starts if not any(c.startswith(start) for c in told)] == []
    for minor in range(10, 14):
        assert f"Programming Language :: Python :: 3.{minor}" in told
    assert described["License"] == "Apache-2.0" and described["Summary"] and described["Keywords"]


def test_links_of_the_package(described):
    "What is listed is what settings.ini says; a placeholder is listed nowhere."
    told = settings()
    urls = project_urls(told["git_url"], told["branch"])
    listed = dict(line.split(", ", 1) for line in described.get_all("Project-URL") or [])
    assert listed == urls
    page = described.get_payload()
    assert "example.org" not in page
    assert [link for *_, link in LINK.findall(page)] == []  # beside a package there are no files


def test_the_wheel_has_the_guides_and_stays_small(wheel):  # noqa: F811
    "All guides, at under 2 MB packed, without the data of figures; the rest is the samples'."
    with zipfile.ZipFile(wheel) as packed:
        guides = [i for i in packed.infolist() if i.filename.startswith("vidprism/guides/")]
        assert len(guides) == len(list((ROOT / "nbs" / "guides").rglob("[!.]*.ipynb")))
        assert sum(i.compress_size for i in guides) < 2e6
        for guide in guides:
            kept = json.loads((ROOT / "nbs" / guide.filename.removeprefix("vidprism/")).read_text())
            for output in (o for cell in kept["cells"] for o in cell.get("outputs", [])):
                output.get("data", {}).pop("application/vnd.plotly.v1+json", None)
            assert json.loads(packed.read(guide)) == kept
    assert wheel.stat().st_size < 30e6


@pytest.fixture(scope="module")
def archive(wheel, tmp_path_factory):  # noqa: F811
    "The source archive."
    out = tmp_path_factory.mktemp("sdist")
    code = f"import setuptools.build_meta as b; print(b.build_sdist({str(out)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=wheel.parent / "source", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.tar.gz"))


@pytest.mark.long
def test_the_archive_builds_the_same_wheel(wheel, archive, tmp_path):  # noqa: F811
    "What is in the archive is enough to build the wheel, file by file."
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    (source,) = (p for p in tmp_path.iterdir() if p.is_dir())
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), "."]
    done = subprocess.run(build, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = [sorted(zipfile.ZipFile(w).namelist()) for w in (wheel, next(tmp_path.glob("*.whl")))]
    assert names[0] == names[1]


def test_twine_finds_nothing(wheel, archive):  # noqa: F811
    "`twine check`, by the same reader of Markdown as the index."
    pytest.importorskip("twine", reason="twine is not installed")
    check = [sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(archive)]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("PASSED") == 2, done.stdout + done.stderr


@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_no_repository_no_links(address):
    "Nothing that leads nowhere is shown as an address."
    assert project_urls(address, "main") == {} and badges(address, "main") == ""
    assert "colab" not in readme.make(address or "None").partition("## ")[0]
    said = absolute_links("See [the list](PROMISES.md), ![a](nbs/inspector.gif) and [x](https://a.b).", address, "main")
    assert said == "See the list,  and [x](https://a.b)."


@pytest.mark.parametrize("address", [REAL, REAL + ".git", REAL + "/"])
def test_one_setting_makes_all_links(address):
    urls = project_urls(address, "main")
    assert {"Homepage", "Documentation", "Source", "Issues", "Changelog"} == set(urls)
    assert all(url.startswith(REAL) for url in urls.values())
    for guide in GUIDES:
        place = f"https://colab.research.google.com/github/someone/vidprism/blob/main/nbs/guides/{guide}.ipynb"
        assert readme.make(address).count(f"]({place})") == 1
        assert (ROOT / "nbs" / "guides" / f"{guide}.ipynb").is_file()
    said = absolute_links("[the list](PROMISES.md) ![a](nbs/inspector.gif) [x](https://a.b) [y](#z)", address, "main")
    assert said == (
        f"[the list]({REAL}/blob/main/PROMISES.md) ![a]({REAL}/raw/main/nbs/inspector.gif) [x](https://a.b) [y](#z)"
    )


def test_a_home_that_is_not_on_github():
    assert project_urls("https://gitlab.com/a/b", "main") == {"Homepage": "https://gitlab.com/a/b"}
    assert badges("https://gitlab.com/a/b", "main") == "" and on_github("https://github.com/a") is None


@pytest.mark.parametrize("name", PAGES)
def test_links_of_the_pages(name):
    "Each link has a target, and one to a file finds it."
    text = (ROOT / name).read_text(encoding="utf-8")
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    assert re.findall(r"\[[^\]]*\]\((?:None)?\)", text) == []
    missing = [path for _, _, path in LINK.findall(text) if not (ROOT / path.partition("#")[0]).exists()]
    assert missing == []
    assert not re.search(r"\]\(https?://([\w.-]+\.)?example\.", text)


def test_the_model_card_links_somewhere():
    "No link of a card is empty, and its licence is named."
    from vidprism.model import sample_model

    card = str(sample_model().generate_model_card(title="x", repo="a/b"))
    assert "None" not in card and re.findall(r"\]\(\s*\)", card) == []
    assert "license: apache-2.0" in card and "Licence of the trained weights: `apache-2.0`" in card
    assert "license: mit" in str(sample_model().generate_model_card(license="mit"))


def test_citation():
    "The file is valid where its checker is installed, and names both papers with their authors."
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {settings()['version']}" in text
    for part in ("Image-to-Video Transfer", "Chuanming", "Visual-Language to Video Knowledge Transfer", "Qijun"):
        assert part in text
    cff = pytest.importorskip("cffconvert", reason="cffconvert is not installed")
    cff.Citation(text).validate()


def test_changelog_has_the_form():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    heads = re.findall(r"^## \[(.*?)\](?: - (\d{4}-\d\d-\d\d))?$", text, re.M)
    assert heads[0] == ("Unreleased", "") and all(date for _, date in heads[1:])
    assert settings()["version"] in [version for version, _ in heads]
    kinds = set(re.findall(r"^### (.*)$", text, re.M))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_first_five_minutes_are_words_of_the_command():
    "Each line of the README's first block is one that `tests/test_app.py` and `tests/test_command.py` run."
    section = (ROOT / "README.md").read_text().split("## The first five minutes")[1]
    lines = re.search(r"```sh\n(.*?)```", section, re.S)[1].splitlines()
    assert [line.split("#")[0].split() for line in lines] == [
        ["pip", "install", "vidprism"],
        ["vidprism", "inspect"],
        ["vidprism", "show"],
        ["vidprism", "lab"],
    ]
