"""Running the JavaScript of an exported web page in a browser or in Node.js."""

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smidgen.errors import ExportError

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "msedge",
    "microsoft-edge",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
NODE = ("node", "nodejs")
_TIMEOUT = 180  # seconds
_SCRIPTS = re.compile(r'<script id="(\w+)"[^>]*>(.*?)</script>', re.DOTALL)
_ANSWER = """
const bytes = decodeBytes(images), size = network.image.length, answers = [];
const started = performance.now();
for (let at = 0; at < bytes.length; at += size) {
  const pixels = bytes.subarray(at, at + size), outputs = network.run(pixels);
  const { doubt } = network.answer(outputs, pixels);
  answers.push({ scores: [...outputs[outputs.length - 1]], doubt });
}
const seconds = (performance.now() - started) / 1000;
"""


@dataclass(frozen=True, slots=True, eq=False)
class PageAnswers:
    """What a page computed."""

    runtime: str
    """What ran it: the name of its program."""
    scores: NDArray[np.float64]
    """(images, classes)."""
    rejected: NDArray[np.bool_]
    """(images,): whether the answer is "not sure"."""
    seconds_per_image: float


def run_page(page: str, pixels: NDArray[np.uint8]) -> PageAnswers | None:
    """The answers of the page with this text to raw images (images, channels, height, width).

    None if there is neither a browser of Chromium's family that opens it nor Node.js.

    Raises:
        ExportError: the page's scripts do not run.
    """
    for run, names in ((_run_in_browser, BROWSERS), (_run_in_node, NODE)):
        program = next(filter(None, map(shutil.which, names)), None)
        images = base64.b64encode(pixels.tobytes()).decode()
        text = None if program is None else run(program, page, images)
        if program is None or text is None:
            continue
        found = json.loads(text)
        return PageAnswers(
            runtime=Path(program).stem,
            scores=np.array([answer["scores"] for answer in found["answers"]]),
            rejected=np.array([answer["doubt"] is not None for answer in found["answers"]]),
            seconds_per_image=found["seconds"] / len(pixels),
        )
    return None


def _run_in_browser(program: str, page: str, images: str) -> str | None:
    """The page as it is, and a script after its own."""
    script = (
        f"""const images = "{images}"; {_ANSWER} show(JSON.stringify({{ answers, seconds }}));"""
    )
    return run_script(program, page, script)


def run_script(program: str, page: str, script: str) -> str | None:
    """What `script` passes to its function `show` in the page, in a headless browser.

    None if the browser does not start, or cannot open the file: one in a sandbox may not.

    Raises:
        ExportError: the script did not call the function.
    """
    added = f"""<pre id="shown"></pre><script>{{
        const show = (text) => {{ document.getElementById("shown").textContent = text; }};
        {script} }}</script></body>"""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "page.html"
        path.write_text(page.replace("</body>", added), encoding="utf-8")
        command = [program, "--headless", "--disable-gpu", "--disable-background-networking"]
        command += ["--no-first-run", f"--user-data-dir={folder}/profile", "--dump-dom"]
        if getattr(os, "geteuid", lambda: 1)() == 0:
            command.append("--no-sandbox")  # without which it refuses to run as root
        try:
            dom = _output_of([*command, path.as_uri()])
        except ExportError:
            return None
    if 'id="shown"' not in dom:
        return None
    found = re.search(r'<pre id="shown">(.+?)</pre>', dom, re.DOTALL)
    if found is None:
        raise ExportError(f"the page's scripts do not run in {program}")
    return found[1]


def _run_in_node(program: str, page: str, images: str) -> str:
    """Only the network and what runs it, without the rest of the page."""
    scripts = dict(_SCRIPTS.findall(page))
    source = f"""{scripts["engine"]}
        const network = new Network({scripts["facts"]}.network);
        const images = require("fs").readFileSync(0, "utf8");
        {_ANSWER} console.log(JSON.stringify({{ answers, seconds }}));"""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "engine.js"
        path.write_text(source, encoding="utf-8")
        return _output_of([program, str(path)], images)


def _output_of(command: list[str], text: str | None = None) -> str:
    try:
        return subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=_TIMEOUT, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        reason = str(getattr(error, "stderr", None) or error).strip().splitlines()
        raise ExportError(f"{command[0]} cannot run the page: {reason[-1]}") from None
