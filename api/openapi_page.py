"""The schema as one page of HTML: no script, no font, no picture, nothing from another host."""

from html import escape
from typing import Any

import msgspec

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
h2{margin-top:2.5rem;border-bottom:1px solid #d0d7de;text-transform:capitalize}
summary{cursor:pointer;padding:.4rem 0}code,pre{font:13px/1.45 ui-monospace,monospace}
pre{background:#f6f8fa;padding:.8rem;overflow:auto;border-radius:6px}.m{display:inline-block;width:4.5rem;font-weight:700}
.text{white-space:pre-line}table{border-collapse:collapse}td,th{text-align:left;padding:.15rem 1rem .15rem 0;vertical-align:top}
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}pre{background:#161b22}h2{border-color:#30363d}}
"""


def page(schema: dict[str, Any]) -> bytes:
    """All operations by tag, in the order of their paths, then all schemas."""
    info = schema["info"]
    by_tag: dict[str, list[str]] = {}
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            if isinstance(operation, dict):
                by_tag.setdefault((operation.get("tags") or ["other"])[0], []).append(
                    _operation(method, path, operation)
                )
    parts = [f"<h2>{escape(tag)}</h2>{''.join(found)}" for tag, found in sorted(by_tag.items())]
    shapes = [
        f"<details id='schema-{escape(name)}'><summary><code>{escape(name)}</code></summary>{_json(shape)}</details>"
        for name, shape in sorted(schema.get("components", {}).get("schemas", {}).items())
    ]
    title = escape(info["title"])
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{title} API</title>"
        f"<meta name='viewport' content='width=device-width,initial-scale=1'><style>{_STYLE}</style></head><body>"
        f"<h1>{title} API {escape(info['version'])}</h1><p>{escape(info.get('description', ''))} "
        f"Machine-readable: <a href='/openapi.json'>/openapi.json</a>.</p>"
        f"{''.join(parts)}<h2>schemas</h2>{''.join(shapes)}</body></html>"
    ).encode()


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [f"<p class='text'>{escape(operation.get('description', ''))}</p>"]
    parameters = operation.get("parameters", [])
    if parameters:
        rows = [
            f"<tr><td><code>{escape(one['name'])}</code></td><td>{escape(one['in'])}</td>"
            f"<td>{'required' if one.get('required') else ''}</td><td>{escape(one.get('description', ''))}</td></tr>"
            for one in parameters
        ]
        parts.append(f"<table>{''.join(rows)}</table>")
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<h4>Request: {escape(kind)}</h4>{_content(content)}")
    for status, answer in operation.get("responses", {}).items():
        parts.append(f"<h4>{escape(status)} {escape(answer.get('description', 'a problem'))}</h4>")
        parts += [f"<div>{escape(kind)}</div>{_content(found)}" for kind, found in answer.get("content", {}).items()]
    summary = escape(operation.get("summary", ""))
    return (
        f"<details><summary><span class='m'>{method.upper()}</span><code>{escape(path)}</code> {summary}</summary>"
        f"{''.join(parts)}</details>"
    )


def _content(content: dict[str, Any]) -> str:
    examples = [one["value"] for one in content.get("examples", {}).values() if "value" in one]
    if "example" in content:
        examples.append(content["example"])
    shown = "".join(_json(example) for example in examples)
    return shown or _json(content.get("schema", {}))


def _json(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    return f"<pre>{escape(text)}</pre>"
