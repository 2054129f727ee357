"""All addresses of the project, from one setting: `git_url` in settings.ini.

Only an address on GitHub makes links to files, issues and Colab; another one is named as the home page, and a
placeholder, such as one on example.org, as nothing at all. `setup.py`, `tools/readme.py` and the tests read this."""

import re
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parent.parent
GITHUB = re.compile(r"https://github\.com/([\w.-]+)/([\w.-]+?)(?:\.git)?/?")
PLACEHOLDER = re.compile(
    r"https?://([\w.-]+\.)?(example\.(org|com|net)|[\w.-]*\.(example|invalid|test)|localhost)(/.*)?"
)
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)\s]+)\)")
GUIDES = ("01_explore_clip", "02_inspect_clip", "04_train_a_head")  # those that run anywhere as they are
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"


def settings() -> dict:
    "What settings.ini says."
    parser = ConfigParser(delimiters=["="])
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    return dict(parser["DEFAULT"])


def on_github(git_url: str):
    "Owner and name of a repository on GitHub; None for any other address."
    found = GITHUB.fullmatch(git_url.strip())
    return found and found.groups()


def project_urls(git_url: str, branch: str) -> dict:
    "Name -> address of what a package index lists."
    git_url = git_url.strip()
    if not git_url.startswith("https://") or PLACEHOLDER.fullmatch(git_url):
        return {}
    if not on_github(git_url):
        return {"Homepage": git_url}
    home = "https://github.com/" + "/".join(on_github(git_url))
    tree = f"{home}/blob/{branch}"
    return {
        "Homepage": home,
        "Documentation": f"{tree}/README.md",
        "Source": home,
        "Issues": f"{home}/issues",
        "Changelog": f"{tree}/CHANGELOG.md",
    }


def badges(git_url: str, branch: str) -> str:
    "A line of badges that open the guides in Colab; empty without a repository on GitHub."
    where = on_github(git_url)
    if not where:
        return ""
    owner, name = where
    start = f"https://colab.research.google.com/github/{owner}/{name}/blob/{branch}/nbs/guides"
    return " ".join(f"[![Open {guide} in Colab]({BADGE})]({start}/{guide}.ipynb)" for guide in GUIDES)


def absolute_links(text: str, git_url: str, branch: str) -> str:
    """Markdown for a page that does not stand beside the repository's files.

    Links to files lead to GitHub; without a repository there they become their text, and pictures are left out."""
    where = on_github(git_url)

    def link(found):
        picture, words, path = found.groups()
        if not where:
            return "" if picture else words
        kind = "raw" if picture else "blob"
        return f"{picture}[{words}](https://github.com/{where[0]}/{where[1]}/{kind}/{branch}/{path})"

    return LINK.sub(link, text)
