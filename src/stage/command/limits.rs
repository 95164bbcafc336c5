//! Reads the time limit and the memory of a `command`.

use std::time::Duration;

/// Reads `600`, `0.5`, `10m` and `1h30m`; seconds have no unit.
pub(super) fn time(text: &str) -> Option<Duration> {
    let limit = match text.parse() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => humantime::parse_duration(text).ok(),
    };
    limit.filter(|limit| !limit.is_zero())
}

/// Reads a size such as `512MiB`, in bytes.
pub(super) fn memory(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 10] = [
        ("", 1),
        ("B", 1),
        ("kB", 1000),
        ("KB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
    ];
    let (number, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let (_, factor) = UNITS.into_iter().find(|(name, _)| *name == unit.trim())?;
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_limit_may_have_units() {
        let seconds = |text| time(text).map(|limit| limit.as_secs_f64());
        let read = ["600", "0.5", "90s", "10m", "2h", "1h30m", "1h 30m"].map(seconds);
        assert_eq!(read, [600.0, 0.5, 90.0, 600.0, 7200.0, 5400.0, 5400.0].map(Some));
        for wrong in ["", "0", "-1", "0s", "10 parsecs", "m", "1e300", "NaN", "inf"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_memory_size_may_have_units() {
        assert_eq!(
            ["1", "3 kB", "2KiB", "512 MB"].map(memory),
            [Some(1), Some(3000), Some(2048), Some(512_000_000)]
        );
        for wrong in ["", "MiB", "0", "1.5GiB", "-1", "1XB", "99999999999999TiB"] {
            assert_eq!(memory(wrong), None, "{wrong}");
        }
    }
}
