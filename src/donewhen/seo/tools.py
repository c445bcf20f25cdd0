"""The audit as tools that a model can call."""

from __future__ import annotations

from collections.abc import Callable

from donewhen.seo.audit import check_page_links, judge_page
from donewhen.seo.fetch import Fetcher
from donewhen.seo.links import is_internal
from donewhen.seo.transfer import FetchError

EXCERPT_CHARS = 600


def audit_tools(*, only_site_of: str | None = None) -> list[Callable[[str], dict[str, object]]]:
    """Return three tools: fetch_url, audit_page and check_links.

    They share one polite fetcher. What goes wrong is raised as a sentence, which a loop hands back to the model.

    Args:
        only_site_of: a URL; where given, the tools refuse every other host, whatever the model asks for.
    """
    fetcher = Fetcher()

    def admitted(url: str) -> str:
        if only_site_of is not None and not is_internal(url, only_site_of):
            raise FetchError(url, "only pages of the site that the task names may be fetched")
        return url

    def fetch_url(url: str) -> dict[str, object]:
        """Fetch a page: its status, media type, size and the beginning of its HTML."""
        page = fetcher.page(admitted(url))
        return {
            "url": page.final_url,
            "status": page.status,
            "content_type": page.content_type,
            "size_bytes": page.size_bytes,
            "problems": list(page.problems),
            "excerpt": page.text[:EXCERPT_CHARS],
        }

    def audit_page(url: str) -> dict[str, object]:
        """Audit a page: title, description, headings, images, links, status, and what is wrong with them."""
        return judge_page(fetcher.page(admitted(url))).as_dict()

    def check_links(url: str) -> dict[str, object]:
        """Ask for the internal links of a page, twenty at most, and tell which are broken."""
        return check_page_links(fetcher.page(admitted(url)), fetcher).as_dict()

    return [fetch_url, audit_page, check_links]
