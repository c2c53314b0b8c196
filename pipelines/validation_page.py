"""The validation report as a page: findings of the checks and of the audit, and counts of the data."""

from __future__ import annotations

from pathlib import Path

import jinja2

from pipelines.files import read_json, written_whole
from pipelines.paths import AUDIT_FILE, VALIDATION_FILE

PAGE = "validation.html"

_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ task }}: validation report</title><style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1f2937; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .3rem .6rem; }
tr { border-bottom: 1px solid #e5e7eb; } .bad { color: #b5403a; } .good { color: #2f7d4f; } .warn { color: #9a6700; }
</style></head><body>
<h1>{{ task }}: validation report</h1>
<h2>Checks: {% if validation.passed %}<span class="good">passed</span>{% else %}<span class="bad">refused</span>
{% endif %}</h2>
{% if validation.findings %}<table><tr><th></th><th>file</th><th>column</th><th>rows</th><th>what</th></tr>
{% for one in validation.findings %}
<tr><td class="{{ 'bad' if one.severity == 'error' else 'warn' }}">{{ one.severity }}</td><td>{{ one.file }}</td>
<td>{{ one.column or '' }}</td><td>{{ one.rows | join(', ') }}
{%- if one.count > one.rows | length %} and {{ one.count - one.rows | length }} more{% endif %}</td>
<td>{{ one.message }}</td></tr>
{% endfor %}</table>{% else %}<p>Nothing was found.</p>{% endif %}
<p>Every expectation: <a href="data_docs/index.html">Data Docs</a>.</p>
<h2>Audit</h2>
{% if not audit %}<p>It has not run yet.</p>{% else %}
{% for one in audit.findings %}<p class="warn"><b>{{ one.name }}</b>: {{ one.message }}</p>
{% else %}<p class="good">No finding.</p>{% endfor %}
<h3>How well do confounders alone predict the label?</h3>
<table><tr><th>probe</th><th>metric</th><th>score</th><th>95 % interval</th><th>chance</th><th>finding</th></tr>
{% for one in audit.shortcuts %}<tr><td>{{ one.probe }}</td><td>{{ one.metric }}</td>
<td>{{ number(one.score) }}</td><td>{{ number(one.low) }} to {{ number(one.high) }}</td>
<td>{{ number(one.chance) }}</td>
<td class="{{ 'warn' if one.finding else 'good' }}">{{ 'yes' if one.finding else 'no' }}</td></tr>{% endfor %}</table>
<h3>Groups and copies</h3><pre>{{ plain(audit.groups) }}
{{ plain(audit.duplicates.counts) }}</pre>{% endif %}
<h2>Counts</h2><pre>{{ plain(validation.counts) }}</pre>
</body></html>
"""


def write_page(reports: Path, task: str) -> Path:
    """Write ``validation.html`` from ``validation.json`` and, if there is one, ``audit.json`` in ``reports``."""
    import yaml

    found = reports / AUDIT_FILE
    content = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(_TEMPLATE)
    page = content.render(
        task=task,
        validation=read_json(reports / VALIDATION_FILE),
        audit=read_json(found) if found.is_file() else None,
        number=lambda value: "–" if value is None else f"{value:.3f}",
        plain=lambda value: yaml.safe_dump(value, sort_keys=False),
    )
    with written_whole(reports / PAGE) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return reports / PAGE
