"""The pages of the demo's site: a bicycle workshop whose web pages have the usual faults."""

from __future__ import annotations

from dataclasses import dataclass

HTML = "text/html; charset=utf-8"
HEAD = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
NAVIGATION = """<nav><a href="/">Start</a> <a href="/services">Services</a> <a href="/prices">Prices</a>
<a href="/team">Team</a> <a href="/history">History</a> <a href="/brochure.pdf">Brochure</a></nav>"""


@dataclass(frozen=True, slots=True)
class SitePage:
    """One answer of the site."""

    body: bytes
    content_type: str = HTML
    status: int = 200
    location: str | None = None
    """Where a redirect leads."""


def _html(head: str, body: str, *, lang: str = ' lang="en"') -> SitePage:
    text = f"<!doctype html>\n<html{lang}>\n<head>{HEAD}\n{head}\n</head>\n<body>\n{NAVIGATION}\n{body}\n</body>\n</html>\n"
    return SitePage(text.encode("utf-8"))


START = _html(
    "<title>Home</title>",
    """<h1>Spoke and Chain</h1>
<p>We repair bicycles of every kind, most of them on the same day.</p>
<img src="/workshop.jpg">
<h3>Opening hours</h3>
<p>Tuesday to Saturday, nine to six.</p>
<p><a href="/spring-offer">Our spring offer</a>, <a href="/private/ledger">accounts</a>,
<a href="https://www.example.org/cycling">a club we like</a></p>""",
)
"""A title that says nothing, no description, an image without alt, a skipped heading level, a broken link."""

SERVICES = _html(
    """<title>Bicycle repair services in one day | Spoke and Chain</title>
<meta name="description" content="Brakes, gears, wheels and frames: what we repair, how long it takes, and what to bring.">""",
    """<h1>Services</h1>
<p>Brakes, gears, wheels, frames.</p>
<h1>What to bring</h1>
<p>The bicycle, and its lock's key.</p>
<p><a href="/prices"></a></p>""",
)
"""Two h1 headings and a link without text."""

PRICES = _html(
    '<meta name="robots" content="noindex, follow">',
    "<h1>Prices</h1>\n<p>A service costs 60, a new chain 35.</p>",
    lang="",
)
"""No title, no language, and kept out of search results."""

TEAM = SitePage(
    """<!doctype html>
<html lang="de">
<head><title>Das Team der Werkstatt: Jörg, Zoë und Anaïs</title></head>
<body>
<h1>Unser Team</h1>
<p>Jörg macht Räder, Zoë macht Rahmen, Anaïs macht Bücher.</p>
<script type="application/ld+json">{"@type": "Organization", "name": "Spoke and Chain",}</script>
</body>
</html>
""".encode("latin-1"),
    "text/html; charset=iso-8859-1",
)
"""Latin-1, without viewport or description, and with JSON-LD that is not JSON."""

HISTORY = SitePage(b"", HTML, 301, "/about")

ABOUT = _html(
    """<title>About the Spoke and Chain bicycle workshop</title>
<meta name="description" content="Since 1987 three generations have repaired the town's bicycles in the same small yard.">
<link rel="canonical" href="/about">
<meta property="og:title" content="About Spoke and Chain"><meta property="og:type" content="website">
<meta property="og:image" content="/workshop.jpg"><meta property="og:url" content="/about">
<script type="application/ld+json">{"@context": "https://schema.org", "@type": "Organization", "name": "Spoke and Chain"}</script>""",
    """<h1>About us</h1>
<h2>The beginning</h2>
<p>A yard, a bench and a box of spanners.</p>
<img src="/workshop.jpg" alt="The workshop in 1987">""",
)
"""The one page without faults, but for the canonical of a site that moves."""

PAGES: dict[str, SitePage] = {
    "/": START,
    "/services": SERVICES,
    "/prices": PRICES,
    "/team": TEAM,
    "/history": HISTORY,
    "/about": ABOUT,
    "/brochure.pdf": SitePage(b"%PDF-1.4\n% A brochure, which is no HTML.\n%%EOF\n", "application/pdf"),
    "/workshop.jpg": SitePage(b"\xff\xd8\xff\xd9", "image/jpeg"),
    "/private/ledger": _html("<title>Accounts</title>", "<h1>Not for robots</h1>"),
    "/robots.txt": SitePage(b"User-agent: *\nDisallow: /private/\n", "text/plain; charset=utf-8"),
}
NOT_FOUND = _html("<title>Not found</title>", "<h1>There is no such page</h1>")
