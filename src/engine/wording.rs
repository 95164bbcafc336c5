//! How numbers read in sentences.

/// `1 node`, `2 nodes`.
pub fn count(nodes: usize) -> String {
    format!("{nodes} node{}", if nodes == 1 { "" } else { "s" })
}

/// `0.04s`, `12.3s`, `4m05s`, `2h03m`.
pub fn seconds(x: f64) -> String {
    match x {
        x if x < 1.0 => format!("{x:.2}s"),
        x if x < 60.0 => format!("{x:.1}s"),
        x if x < 3600.0 => format!("{}m{:02}s", (x / 60.0) as u64, (x % 60.0) as u64),
        x => format!("{}h{:02}m", (x / 3600.0) as u64, (x % 3600.0 / 60.0) as u64),
    }
}

/// `17 B`, `4.0 KiB`, `12.3 MiB`.
pub fn bytes(x: u64) -> String {
    if x < 1024 {
        return format!("{x} B");
    }
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut size = x as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_people_say_them() {
        assert_eq!([0.04, 12.34, 245.0, 7385.0].map(seconds), ["0.04s", "12.3s", "4m05s", "2h03m"]);
    }

    #[test]
    fn one_node_is_not_nodes() {
        assert_eq!([0, 1, 2].map(count), ["0 nodes", "1 node", "2 nodes"]);
    }

    #[test]
    fn bytes_read_in_the_unit_that_fits() {
        let read = [0, 1023, 1024, 1536, 5 << 20, 3 << 30].map(bytes);
        assert_eq!(read, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 MiB", "3.0 GiB"]);
    }
}
