"""Plots, for each pair, how much the error on a curve exceeds that at its ends, by width."""

import csv
import math
import os

METHOD = os.environ["REPRO_PARAM_METHOD"]
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 560, 320, 60, 50, 40, 20

with open("inputs/tables/metrics.csv", newline="") as table:
    rows = [row for row in csv.DictReader(table) if row["method"] == METHOD]
rows = [row for row in rows if row["split"] == "test"]
points = [(int(row["hidden"]), float(row["excess_error"])) for row in rows]
widths = sorted({hidden for hidden, _ in points})
highest = max(1.0, *(excess for _, excess in points))


def x(hidden):
    low, high = math.log(widths[0]), math.log(widths[-1])
    position = (math.log(hidden) - low) / max(high - low, 1e-9)
    return LEFT + 20 + (WIDTH - LEFT - RIGHT - 40) * position


def y(excess):
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * excess / highest


def text(at_x, at_y, words, anchor="middle"):
    return f'<text x="{at_x:.1f}" y="{at_y:.1f}" text-anchor="{anchor}">{words}</text>'


title = f"Excess test error on the {METHOD} curve, %"
axis = f"M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"
parts = [f'<path d="{axis}" fill="none" stroke="#444"/>', text(WIDTH / 2, 22, title)]
parts += [text(x(hidden), HEIGHT - BOTTOM + 18, hidden) for hidden in widths]
parts += [text(LEFT - 8, y(highest * k / 4) + 4, f"{highest * k / 4:.1f}", "end") for k in range(5)]
parts += [text(WIDTH / 2, HEIGHT - 12, "hidden neurons")]
dot = 'r="4" fill="#1f77b4" fill-opacity="0.6"'
parts += [f'<circle cx="{x(h):.1f}" cy="{y(e):.1f}" {dot}/>' for h, e in points]
style = 'font-family="sans-serif" font-size="13" fill="#222"'
with open("figure.svg", "w") as figure:
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}"'
    figure.write(f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n')
    figure.write(f"<title>{title}</title>\n")
    figure.write("\n".join(parts) + "\n</svg>\n")
