//! Boxes and arrows as SVG, in layers: all arrows point to the right.
//!
//! After Sugiyama, Tagawa and Toda (1981): longest-path layers, a few sweeps that move each box
//! near the mean of its neighbours, and a slot in each layer that an arrow passes, so that no arrow
//! runs below a box.

use super::document::GraphBlock;
use super::html::escape;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The first line is the name, in bold.
    pub lines: Vec<String>,
    /// The index of its colour.
    pub colour: usize,
    /// The share of each colour, shown as a bar at the bottom; no bar if empty.
    pub parts: Vec<usize>,
}

/// A colour and its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour {
    /// The meaning, for the legend.
    pub name: &'static str,
    /// The colour of the inside, as `#rrggbb`.
    pub fill: &'static str,
    /// The colour of the border and the bar.
    pub line: &'static str,
}

const CHARACTER: f64 = 7.3;
const LINE: f64 = 16.0;
const MARGIN: f64 = 16.0;
const COLUMN_GAP: f64 = 64.0;
const ROW_GAP: f64 = 14.0;
/// The height of an arrow's slot in a layer that it passes.
const PASS: f64 = 6.0;
const SWEEPS: usize = 8;

/// A box, or the slot of a box's arrows in a layer that they pass.
struct Item {
    block: Option<usize>,
    layer: usize,
    height: f64,
    /// The vertical center.
    y: f64,
    left: Vec<usize>,
    right: Vec<usize>,
}

/// Draws `blocks` and `arrows` between them, by index; each arrow goes from an earlier block to a
/// later one.
pub fn svg(blocks: &[Block], arrows: &[(usize, usize)], colours: &[Colour]) -> String {
    drawn(blocks, arrows, Paint::Colours(colours), &[])
}

/// The number of classes of kinds in the page's style sheet.
const KINDS: usize = 8;

/// Draws a graph for a page: classes in place of colours, and boxes that are links. `url` returns
/// the URL of an anchor, if the page has it.
pub(super) fn linked(graph: &GraphBlock, url: &dyn Fn(&str) -> Option<String>) -> String {
    let mut kinds: Vec<&str> = Vec::new();
    for stage in &graph.stages {
        if !kinds.contains(&stage.kind.as_str()) {
            kinds.push(&stage.kind);
        }
    }
    let blocks = graph.stages.iter().map(|stage| Block {
        lines: match stage.nodes {
            0 | 1 => vec![stage.name.clone(), stage.kind.clone()],
            nodes => vec![stage.name.clone(), format!("{}, {nodes} nodes", stage.kind)],
        },
        colour: kinds.iter().position(|kind| *kind == stage.kind).unwrap_or_default(),
        parts: Vec::new(),
    });
    let blocks: Vec<Block> = blocks.collect();
    let links = graph.stages.iter().map(|stage| stage.link.as_deref().and_then(url));
    let links: Vec<Option<String>> = links.collect();
    drawn(&blocks, &graph.arrows, Paint::Kinds(&kinds), &links)
}

/// How boxes get their colours.
#[derive(Clone, Copy)]
enum Paint<'a> {
    /// Fixed colours.
    Colours(&'a [Colour]),
    /// The classes `k0`, `k1`, ... of a page; with the names of the kinds.
    Kinds(&'a [&'a str]),
}

impl Paint<'_> {
    /// The names for the legend.
    fn names(&self) -> Vec<&str> {
        match self {
            Paint::Colours(colours) => colours.iter().map(|colour| colour.name).collect(),
            Paint::Kinds(kinds) => kinds.to_vec(),
        }
    }

    /// The attributes of a box; `None` if there is no such colour.
    fn attributes(&self, colour: usize) -> Option<String> {
        match self {
            Paint::Colours(colours) => colours
                .get(colour)
                .map(|colour| format!("fill=\"{}\" stroke=\"{}\"", colour.fill, colour.line)),
            Paint::Kinds(_) => Some(format!("class=\"k{}\"", colour % KINDS)),
        }
    }
}

fn drawn(
    blocks: &[Block],
    arrows: &[(usize, usize)],
    paint: Paint,
    links: &[Option<String>],
) -> String {
    let mut items = items(blocks, arrows);
    let mut layers = order(&mut items);
    place(&mut items, &mut layers);
    draw(blocks, &items, &layers, paint, links)
}

fn height(block: &Block) -> f64 {
    block.lines.len() as f64 * LINE + if block.parts.is_empty() { 10.0 } else { 18.0 }
}

fn items(blocks: &[Block], arrows: &[(usize, usize)]) -> Vec<Item> {
    let mut layer = vec![0usize; blocks.len()];
    let mut sorted = arrows.to_vec();
    // Sorted by end, so that all arrows to the start of an arrow precede it.
    sorted.sort_unstable_by_key(|(from, to)| (*to, *from));
    sorted.dedup();
    for &(from, to) in &sorted {
        layer[to] = layer[to].max(layer[from] + 1);
    }
    let item = |block, layer, height| Item {
        block,
        layer,
        height,
        y: 0.0,
        left: Vec::new(),
        right: Vec::new(),
    };
    let mut items: Vec<Item> = blocks
        .iter()
        .zip(&layer)
        .enumerate()
        .map(|(i, (block, &layer))| item(Some(i), layer, height(block)))
        .collect();
    // All arrows from a box share their slots.
    let mut passes: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for &(from, to) in &sorted {
        let mut last = from;
        for between in layer[from] + 1..layer[to] {
            let known = passes.get(&(from, between)).copied();
            let next = known.unwrap_or(items.len());
            if known.is_none() {
                items.push(item(None, between, PASS));
                passes.insert((from, between), next);
                join(&mut items, last, next);
            }
            last = next;
        }
        join(&mut items, last, to);
    }
    items
}

fn join(items: &mut [Item], from: usize, to: usize) {
    items[from].right.push(to);
    items[to].left.push(from);
}

/// The items of each layer, from top to bottom.
fn order(items: &mut [Item]) -> Vec<Vec<usize>> {
    let depth = items.iter().map(|item| item.layer + 1).max().unwrap_or(0);
    let mut layers: Vec<Vec<usize>> = vec![Vec::new(); depth];
    (0..items.len()).for_each(|i| layers[items[i].layer].push(i));
    let mut rank = vec![0.0; items.len()];
    for sweep in 0..SWEEPS {
        let rightwards = sweep % 2 == 0;
        for step in 0..depth {
            let layer = if rightwards { step } else { depth - 1 - step };
            let mean = |i: &usize| {
                let beside = if rightwards { &items[*i].left } else { &items[*i].right };
                let sum: f64 = beside.iter().map(|j| rank[*j]).sum();
                if beside.is_empty() { rank[*i] } else { sum / beside.len() as f64 }
            };
            let mut keyed: Vec<(f64, usize)> =
                layers[layer].iter().map(|i| (mean(i), *i)).collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            let last = keyed.len().saturating_sub(1).max(1) as f64;
            for (place, (_, i)) in keyed.iter().enumerate() {
                // From 0 to 1, so that layers of different lengths are comparable.
                rank[*i] = if keyed.len() == 1 { 0.5 } else { place as f64 / last };
            }
            layers[layer] = keyed.into_iter().map(|(_, i)| i).collect();
        }
    }
    layers
}

/// Sets the vertical centers: near the mean of the neighbours, without overlaps in a layer.
fn place(items: &mut [Item], layers: &mut [Vec<usize>]) {
    for layer in layers.iter() {
        let mut y = 0.0;
        for &i in layer {
            items[i].y = y + items[i].height / 2.0;
            y += items[i].height + ROW_GAP;
        }
        layer.iter().for_each(|&i| items[i].y -= y / 2.0);
    }
    for sweep in 0..SWEEPS {
        for step in 0..layers.len() {
            let (layer, left) =
                if sweep % 2 == 0 { (step, true) } else { (layers.len() - 1 - step, false) };
            let target = |i: usize| {
                let beside = if left { &items[i].left } else { &items[i].right };
                let sum: f64 = beside.iter().map(|j| items[*j].y).sum();
                if beside.is_empty() { items[i].y } else { sum / beside.len() as f64 }
            };
            let targets: Vec<f64> = layers[layer].iter().map(|i| target(*i)).collect();
            fit(items, &layers[layer], &targets);
        }
    }
}

/// Moves the items of a layer as close to `targets` as order and gaps permit, in the least-squares
/// sense, by the pool-adjacent-violators algorithm.
fn fit(items: &mut [Item], layer: &[usize], targets: &[f64]) {
    // The offset of each item from the first if packed. Targets minus offsets must not decrease.
    let mut offset = 0.0;
    let mut offsets = Vec::with_capacity(layer.len());
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for (n, &i) in layer.iter().enumerate() {
        if n > 0 {
            offset += (items[layer[n - 1]].height + items[i].height) / 2.0 + ROW_GAP;
        }
        offsets.push(offset);
        let mut pool = (targets[n] - offset, 1);
        while let Some(&(sum, count)) = pools.last() {
            if sum / count as f64 <= pool.0 / pool.1 as f64 {
                break;
            }
            pool = (pool.0 + sum, pool.1 + count);
            pools.pop();
        }
        pools.push(pool);
    }
    let levels =
        pools.iter().flat_map(|&(sum, count)| std::iter::repeat_n(sum / count as f64, count));
    for ((level, offset), &i) in levels.zip(offsets).zip(layer) {
        items[i].y = level + offset;
    }
}

fn draw(
    blocks: &[Block],
    items: &[Item],
    layers: &[Vec<usize>],
    paint: Paint,
    links: &[Option<String>],
) -> String {
    let characters =
        |block: &Block| block.lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let width = |i: &usize| {
        items[*i].block.map_or(0.0, |b| characters(&blocks[b]) as f64 * CHARACTER + 20.0)
    };
    let widths: Vec<f64> =
        layers.iter().map(|layer| layer.iter().map(width).fold(0.0, f64::max)).collect();
    let mut lefts = Vec::new();
    let mut x = MARGIN;
    for width in &widths {
        lefts.push(x);
        x += width + COLUMN_GAP;
    }
    let top = items.iter().map(|item| item.y - item.height / 2.0).fold(f64::INFINITY, f64::min);
    let top = if top.is_finite() { top } else { 0.0 };
    let bottom = items.iter().map(|item| item.y + item.height / 2.0).fold(top, f64::max);
    let y = |item: &Item| item.y - top + MARGIN;
    let names = paint.names();
    let legend_width: f64 = names.iter().map(|name| legend_step(name)).sum();
    let wide = (x - COLUMN_GAP).max(legend_width + MARGIN) + MARGIN;
    let high = bottom - top + 2.0 * MARGIN + 32.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{wide:.0}\" height=\"{high:.0}\" \
         viewBox=\"0 0 {wide:.0} {high:.0}\" \
         font-family=\"ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" \
         font-size=\"12\">\n"
    );
    text += match paint {
        Paint::Colours(_) => {
            "<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"8\" \
             markerHeight=\"8\" orient=\"auto\"><path d=\"M0,0 L8,4 L0,8 z\" \
             fill=\"#707070\"/></marker></defs>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
             <g fill=\"none\" stroke=\"#707070\" stroke-width=\"1.2\">\n"
        }
        Paint::Kinds(_) => "<g class=\"arrows\">\n",
    };
    for item in items {
        let own = lefts[item.layer] + item.block.map_or(widths[item.layer], |b| width(&b));
        for &next in &item.right {
            let to = &items[next];
            let (y1, x2, y2) = (y(item), lefts[to.layer], y(to));
            let bend = lefts[to.layer] - COLUMN_GAP / 2.0;
            let line = format!("M{own:.1},{y1:.1} H{:.1}", lefts[to.layer] - COLUMN_GAP);
            let end = match to.block {
                Some(_) => String::new(),
                None => format!(" H{:.1}", x2 + widths[to.layer]),
            };
            // A page has no place for the marker's id, so that the tip is part of the line.
            let (marker, tip) = match (to.block.is_some(), paint) {
                (false, _) => ("", String::new()),
                (true, Paint::Colours(_)) => (" marker-end=\"url(#tip)\"", String::new()),
                (true, Paint::Kinds(_)) => {
                    let (x, above, below) = (x2 - 6.0, y2 - 4.0, y2 + 4.0);
                    ("", format!(" M{x:.1},{above:.1} L{x2:.1},{y2:.1} L{x:.1},{below:.1}"))
                }
            };
            let _ = writeln!(
                text,
                "<path d=\"{line} C{bend:.1},{y1:.1} {bend:.1},{y2:.1} \
                 {x2:.1},{y2:.1}{end}{tip}\"{marker}/>"
            );
        }
    }
    let _ = text.write_str("</g>\n");
    for (i, item) in items.iter().enumerate() {
        let Some(index) = item.block else { continue };
        let link = links.get(index).and_then(Option::as_deref);
        if let Some(url) = link {
            let _ = write!(text, "<a href=\"{}\">", escape(url));
        }
        let at = (lefts[item.layer], y(item) - item.height / 2.0);
        boxed(&mut text, &blocks[index], at, width(&i), paint);
        if link.is_some() {
            text += "</a>\n";
        }
    }
    let mut x = MARGIN;
    for (i, name) in names.iter().enumerate() {
        let y = high - MARGIN - 6.0;
        let attributes = paint.attributes(i).unwrap_or_default();
        let _ = writeln!(
            text,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\" rx=\"2\" {attributes}/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            y - 10.0,
            x + 18.0,
            y,
            escape(name)
        );
        x += legend_step(name);
    }
    text + "</svg>\n"
}

fn legend_step(name: &str) -> f64 {
    name.chars().count() as f64 * CHARACTER + 40.0
}

fn boxed(text: &mut String, block: &Block, (x, y): (f64, f64), width: f64, paint: Paint) {
    let Some(attributes) = paint.attributes(block.colour) else { return };
    let high = height(block);
    let _ = writeln!(
        text,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{high:.1}\" rx=\"4\" \
         {attributes}/>"
    );
    for (n, line) in block.lines.iter().enumerate() {
        let weight = if n == 0 { " font-weight=\"bold\"" } else { "" };
        let (x, y) = (x + 10.0, y + 5.0 + LINE * (n as f64 + 0.75));
        let _ = writeln!(text, "<text x=\"{x:.1}\" y=\"{y:.1}\"{weight}>{}</text>", escape(line));
    }
    let Paint::Colours(colours) = paint else { return };
    let all: usize = block.parts.iter().sum();
    let mut from = x + 10.0;
    for (part, colour) in block.parts.iter().zip(colours) {
        let wide = (width - 20.0) * *part as f64 / all.max(1) as f64;
        if wide > 0.0 {
            let _ = writeln!(
                text,
                "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"5\" \
                 fill=\"{}\"/>",
                y + high - 10.0,
                colour.line
            );
        }
        from += wide;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::document::GraphStage;
    use proptest::prelude::*;

    const COLOURS: [Colour; 2] = [
        Colour { name: "done", fill: "#ddffdd", line: "#008800" },
        Colour { name: "open", fill: "#ffdddd", line: "#880000" },
    ];

    fn block(name: &str, parts: Vec<usize>) -> Block {
        Block {
            lines: vec![name.to_owned(), "a & b < c".to_owned()],
            colour: parts.len() % 2,
            parts,
        }
    }

    /// The left, top, width and height of each box.
    fn boxes(svg: &str) -> Vec<[f64; 4]> {
        let document = roxmltree::Document::parse(svg).unwrap();
        let rects = document.descendants().filter(|node| node.attribute("rx") == Some("4"));
        rects
            .map(|rect| {
                ["x", "y", "width", "height"]
                    .map(|name| rect.attribute(name).unwrap().parse().unwrap())
            })
            .collect()
    }

    #[test]
    fn a_graph_is_well_formed_and_inside_its_frame() {
        let blocks = [block("one", vec![]), block("two", vec![1, 2]), block("three", vec![])];
        let graph = svg(&blocks, &[(0, 1), (1, 2), (0, 2)], &COLOURS);
        let document = roxmltree::Document::parse(&graph).unwrap();
        let [wide, high] = ["width", "height"]
            .map(|name| document.root_element().attribute(name).unwrap().parse::<f64>().unwrap());
        let boxes = boxes(&graph);
        assert!(
            boxes.iter().all(|[x, y, w, h]| *x > 0.0 && *y > 0.0 && x + w < wide && y + h < high)
        );
        assert!(
            boxes[0][0] + boxes[0][2] < boxes[1][0] && boxes[1][0] + boxes[1][2] < boxes[2][0],
            "{boxes:?}"
        );
        assert_eq!(graph.matches("marker-end").count(), 3);
        roxmltree::Document::parse(&svg(&[], &[], &COLOURS)).unwrap();
    }

    #[test]
    fn a_graph_of_a_page_has_links_and_classes_in_place_of_ids_and_colours() {
        let stage = |name: &str, kind: &str, link: &str| GraphStage {
            name: name.into(),
            kind: kind.into(),
            nodes: 1,
            link: Some(link.into()),
        };
        let graph = GraphBlock {
            id: "stages".into(),
            title: String::new(),
            caption: String::new(),
            stages: vec![
                stage("data", "fetch", "settings"),
                stage("a \"b\" <c>", "train", "absent"),
                stage("more", "train", "training"),
            ],
            arrows: vec![(0, 1), (0, 2)],
        };
        let drawn = linked(&graph, &|anchor| (anchor != "absent").then(|| format!("#{anchor}")));
        let document = roxmltree::Document::parse(&drawn).unwrap();
        let values = |name: &str| -> Vec<&str> {
            document.descendants().filter_map(|node| node.attribute(name)).collect()
        };
        assert_eq!(values("href"), ["#settings", "#training"]);
        assert_eq!(values("class"), ["arrows", "k0", "k1", "k1", "k0", "k1"]);
        assert!(["id", "fill", "stroke"].iter().all(|name| values(name).is_empty()), "{drawn}");
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            cases: 64,
            ..ProptestConfig::default()
        })]

        #[test]
        fn boxes_do_not_overlap_and_arrows_point_to_the_right(
            n in 1usize..30,
            drawn in prop::collection::vec((0usize..30, 0usize..30), 0..60),
        ) {
            let blocks: Vec<Block> =
                (0..n).map(|i| block(&"x".repeat(i % 7 + 1), vec![1; i % 3])).collect();
            let arrows: Vec<(usize, usize)> =
                drawn.into_iter().filter(|(a, b)| a < b && *b < n).collect();
            let boxes = boxes(&svg(&blocks, &arrows, &COLOURS));
            prop_assert_eq!(boxes.len(), n);
            for (i, [x, y, w, h]) in boxes.iter().enumerate() {
                for [x2, y2, w2, h2] in &boxes[i + 1..] {
                    prop_assert!(x + w <= *x2 || x2 + w2 <= *x || y + h <= *y2 || y2 + h2 <= *y);
                }
            }
            for (a, b) in arrows {
                prop_assert!(boxes[a][0] + boxes[a][2] < boxes[b][0]);
            }
        }
    }
}
