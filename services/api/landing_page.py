"""The page at the root, which lists the routes. It loads no external resources."""

from html import escape

_ROUTES = (
    ("POST /v1/classify/{target}", "the best labels of pictures or texts"),
    ("POST /v1/classify?targets=a,b", "the same by several targets at once"),
    ("POST /v1/embed/{target}", "feature vectors"),
    ("GET /v1/targets", "what is served"),
    ("GET /livez, /readyz", "health"),
    ("GET /metrics", "metrics for Prometheus"),
    ("GET /docs.json", "BentoML's own operations, /classify and /embed, in OpenAPI"),
)

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem;color-scheme:light dark}"
    "table{border-collapse:collapse}td{padding:.3rem 1.5rem .3rem 0;vertical-align:top}code{white-space:nowrap}"
)


def page() -> bytes:
    """Return the page, HTML in UTF-8."""
    rows = "".join(
        f"<tr><td><code>{escape(route)}</code></td><td>{escape(what)}</td></tr>" for route, what in _ROUTES
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Cultivar</title><style>{_STYLE}</style><h1>Cultivar</h1>"
        f"<p>This server answers:</p><table>{rows}</table></html>"
    ).encode()
