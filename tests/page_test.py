"""The HTML report in headless Chromium: no console messages, nothing fetched, the plan's numbers, a picture."""

import html.parser
import json
import re
import shutil
import struct
import subprocess
import unittest
import zlib

from shardwise_process import ShardwiseCase

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")

UNITS = {"s": 1, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60, "h": 3600,
         "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


class Tables(html.parser.HTMLParser):
    """Text of the page, and the rows of each table under the heading before it."""

    def __init__(self):
        super().__init__()
        self.heading, self.tables, self.text = "", {}, ""
        self.inside = None

    def handle_starttag(self, tag, _):
        if tag in ("h2", "h3"):
            self.inside, self.heading = "heading", ""
        elif tag == "tr":
            self.tables.setdefault(self.heading, []).append([])
        elif tag in ("td", "th"):
            self.inside = "cell"
            self.tables[self.heading][-1].append("")

    def handle_endtag(self, tag):
        if tag in ("h2", "h3", "td", "th"):
            self.inside = None

    def handle_data(self, data):
        self.text += data
        if self.inside == "heading":
            self.heading += data
        elif self.inside == "cell":
            self.tables[self.heading][-1][-1] += data


def quantity(text):
    """A number with its unit, in seconds or bytes."""
    number, unit = text.split()
    return float(number) * UNITS[unit]


@unittest.skipIf(BROWSER is None, "no chromium; scripts/setup.sh test installs it where the distribution has it")
class PageTest(ShardwiseCase):
    def browse(self, page, *flags):
        done = subprocess.run(
            [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--enable-logging=stderr", "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND",
             f"--user-data-dir={self.folder / 'browser'}", *flags, page.as_uri()],
            capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    def make_report(self):
        plan = self.make_plan("pp=2 dp=2 micro=2")
        page = self.folder / "report.html"
        self.succeed("report", plan, "-o", page)
        return plan, page

    def assert_shows(self, shown, value, what):
        """Three significant digits."""
        self.assertLessEqual(abs(quantity(shown) - value), 0.0051 * abs(value), f"{what}: {shown}, {value}")

    def test_the_page_shows_the_numbers_of_the_plan(self):
        plan, page = self.make_report()
        dom, console = self.browse(page, "--dump-dom")
        self.assertEqual(console, [])
        shown = Tables()
        shown.feed(dom)
        replay = json.loads(self.succeed("simulate", plan, "--json"))
        step, tokens = re.search(r": (\S+ \S+) per step, (\d+) tokens/s", shown.text).groups()
        self.assert_shows(step, replay["step_time_s"], "step")
        self.assertAlmostEqual(float(tokens), replay["tokens_per_s"], delta=0.51)
        formula = re.search(r"The formula says (\S+ \S+) \(", shown.text).group(1)
        self.assert_shows(formula, json.loads(self.succeed("evaluate", plan, "--json"))["step_time_s"], "formula")

        streams = {row[0]: row for row in shown.tables["Streams"]}
        memory = {row[0]: row for row in shown.tables["Memory of the fullest device"]}
        keys = ["compute_s", "collectives_s", "reductions_s", "point_to_point_s", "end_s"]
        for stage in (0, 1):
            ranks = [rank for rank in replay["ranks"] if rank["stage"] == stage]
            last = max(rank["end_s"] for rank in ranks)
            columns = streams[str(stage)][1:]
            fitting = [rank for rank in ranks if rank["end_s"] == last]
            for key, cell in zip(keys, columns):
                self.assert_shows(cell, fitting[0][key], f"stage {stage} {key}")
            fullest = max(rank["peak_memory_bytes"] for rank in ranks)
            self.assert_shows(memory[str(stage)][2], fullest, f"stage {stage} memory")

    def test_messages_on_the_console_are_seen(self):
        # What the first test relies on.
        _, page = self.make_report()
        noisy = self.write("noisy.html", page.read_text().replace("</body>", "<script>missing()</script></body>"))
        self.assertNotEqual(self.browse(noisy, "--dump-dom")[1], [])

    def test_the_page_asks_for_nothing_else(self):
        _, page = self.make_report()
        self.assertNotRegex(page.read_text(), r"""(?:src|href)\s*=|url\(|@import|<script""")

    def test_it_can_be_pictured_light_and_dark(self):
        _, page = self.make_report()
        corners = []
        for scheme in ([], ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"]):
            picture = self.folder / f"page{len(scheme)}.png"
            self.browse(page, f"--screenshot={picture}", "--window-size=1000,1200", *scheme)
            content = picture.read_bytes()
            self.assertEqual(content[:8], b"\x89PNG\r\n\x1a\n")
            self.assertEqual(struct.unpack(">II", content[16:24]), (1000, 1200))
            corners.append(self.first_row(content))
        self.assertNotEqual(corners[0], corners[1])

    def first_row(self, png):
        """Undecoded bytes of the uppermost line."""
        packed, place = b"", 8
        while place < len(png):
            (length,) = struct.unpack(">I", png[place:place + 4])
            if png[place + 4:place + 8] == b"IDAT":
                packed += png[place + 8:place + 8 + length]
            place += 12 + length
        return zlib.decompress(packed)[:3000]


if __name__ == "__main__":
    unittest.main()
