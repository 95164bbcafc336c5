"""Explores how much the error on a curve exceeds that at its ends: one file of each format."""

import csv
import json
import struct
import zlib

with open("inputs/tables/metrics.csv", newline="") as table:
    rows = [row for row in csv.DictReader(table) if row["split"] == "test"]
widths = sorted({int(row["hidden"]) for row in rows})
methods = sorted({row["method"] for row in rows})
pairs = sorted({int(row["pair"]) for row in rows})
excess = {
    (int(row["hidden"]), row["method"], int(row["pair"])): float(row["excess_error"])
    for row in rows
}


def mean(hidden, method):
    return sum(excess[hidden, method, pair] for pair in pairs) / len(pairs)


# A table: the report aligns and sorts its numbers.
with open("excess.csv", "w", newline="") as table:
    writer = csv.writer(table)
    writer.writerow(["hidden", "method", "mean excess, %"] + [f"pair {pair}" for pair in pairs])
    for hidden in widths:
        for method in methods:
            values = [excess[hidden, method, pair] for pair in pairs]
            cells = [f"{value:.2f}" for value in [mean(hidden, method), *values]]
            writer.writerow([hidden, method, *cells])

# A drawing: the report uses its title and description.
highest = max(mean(hidden, method) for hidden in widths for method in methods)
bars = []
for i, (hidden, method) in enumerate((h, m) for h in widths for m in methods):
    height = 150 * mean(hidden, method) / max(highest, 1e-9)
    x, y = 20 + 110 * i, 170 - height
    bars.append(f'<rect x="{x}" y="{y:.1f}" width="80" height="{height:.1f}" fill="#4477aa"/>')
    bars.append(f'<text x="{x + 40}" y="190">{method}, h = {hidden}</text>')
with open("excess.svg", "w") as figure:
    size = f'viewBox="0 0 {20 + 110 * len(bars) // 2} 200"'
    style = 'font-family="sans-serif" font-size="12" text-anchor="middle" fill="#444"'
    figure.write(f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n')
    figure.write("<title>Mean excess error by curve and width</title>\n")
    figure.write("<desc>Largest error on the curve minus that at the worse end.</desc>\n")
    figure.write("\n".join(bars) + "\n</svg>\n")


# An image, without a library: PNG is a header, deflated rows of pixels, and checksums.
def chunk(name, data):
    checksum = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


scale = 24
darkest = max(*excess.values(), 1e-9)
pixels = b""
for hidden in widths:
    cells = [excess[hidden, method, pair] for method in methods for pair in pairs]
    line = b"".join(bytes([255 - int(255 * max(cell, 0) / darkest)]) * scale for cell in cells)
    pixels += (b"\0" + line) * scale
size = struct.pack(">IIBBBBB", scale * len(methods) * len(pairs), scale * len(widths), 8, 0, 0, 0, 0)
with open("heatmap.png", "wb") as image:
    image.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size))
    image.write(chunk(b"IDAT", zlib.compress(pixels, 9)) + chunk(b"IEND", b""))

# HTML: the page shows it in a frame, in which no script runs.
with open("rows.html", "w") as page:
    page.write("<style>b { display: inline-block; background: #4477aa; height: 0.8em }</style>\n")
    for hidden in widths:
        for method in methods:
            width = 20 * mean(hidden, method) / max(highest, 1e-9)
            page.write(f'<p>{method}, h = {hidden} <b style="width: {width:.2f}em"></b></p>\n')

# A text, which refers to the other files by their names.
lower = sum(mean(h, "arc") < mean(h, "linear") for h in widths)
with open("notes.md", "w") as text:
    text.write(f"""# What the curves cost

At {lower} of {len(widths)} widths, the error on the arc exceeds that at its ends by less than the
error on the straight line does.

![By curve and width](excess.svg)

## Numbers

The numbers are in [a table](excess.csv), one column for each pair; the
[introduction](#what-the-curves-cost) says what they mean.
""")

with open("raw.json", "w") as raw:
    json.dump([[*key, value] for key, value in sorted(excess.items())], raw)
