"""A page in a real browser without a screen: what it shows, measures and complains about."""
from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from html import unescape
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
FLAGS = ('--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
         '--disable-component-update', '--disable-sync', '--hide-scrollbars', '--enable-logging=stderr')
NEEDED = pytest.mark.skipif(CHROMIUM is None, reason='no chromium on PATH: apt-get install chromium')


def browse(page: Path, *flags: str) -> tuple[str, list[str]]:
    """(stdout, lines of the page's console) of a visit."""
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run([CHROMIUM, *FLAGS, f'--user-data-dir={profile}', *flags, page.as_uri()],
                              capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if 'CONSOLE' in line]


def measure(page: Path, script: str, width: int, folder: Path) -> Any:
    """What `script` (the body of a JavaScript function) returns in the page, at a window of that width.

    The page forbids scripts, so a copy without that rule is visited.
    """
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', '', page.read_text())
    probe = (f'<pre id="measured"></pre><script>document.getElementById("measured").textContent = '
             f'JSON.stringify((() => {{ {script} }})());</script></body>')
    copy = folder / 'measured.html'
    copy.write_text(text.replace('</body>', probe))
    shown, complaints = browse(copy, '--dump-dom', f'--window-size={width},1000')
    assert not complaints, complaints
    return json.loads(unescape(re.search(r'<pre id="measured">(.*?)</pre>', shown, re.DOTALL)[1]))
