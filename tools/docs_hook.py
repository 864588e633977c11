"""What mkdocs does beside docs/: the samples and the changelog become pages, and links to them stay right."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside of docs/, under their paths below the root."""
    outside = [ROOT / "CHANGELOG.md", *sorted((ROOT / "samples").glob("**/README.md"))]
    for path in outside:
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the text of a page with its links as they are on the site, where docs/ is the root."""
    source = page.file.src_uri
    if source.startswith("samples/"):
        markdown = markdown.replace("](../../docs/", "](../../").replace("](../docs/", "](../")
        markdown = re.sub(r"^```sh [a-z-]+$", "```sh", markdown, flags=re.MULTILINE)
    elif source == "CHANGELOG.md":
        markdown = markdown.replace("](docs/", "](")
    else:
        markdown = re.sub(r"\]\(\.\./(samples/|CHANGELOG\.md)", r"](\1", markdown)
    return markdown
