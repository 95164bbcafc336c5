//! Records a hash of the sources in the program, and sets how it is linked.

use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::Path;

/// The files and folders that the program is built from.
const SOURCES: [&str; 3] = ["src", "Cargo.toml", "Cargo.lock"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let mut hasher = DefaultHasher::new();
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
        hash(Path::new(source), &mut hasher);
    }
    println!("cargo::rustc-env=REPRO_SOURCES={:016x}", hasher.finish());
    // Each job starts this program, and relocating it costs 3 of the 6 ms of a start: 200,000
    // addresses, most of them in polars. Without PIE there is no relocation, and no randomisation
    // of the load address.
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    let is_static =
        std::env::var("CARGO_CFG_TARGET_FEATURE").is_ok_and(|all| all.contains("crt-static"));
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") && !is_static {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}

/// Hashes a file, or all files below a folder in the order of their names. A missing file, as
/// Cargo.lock may be in a packaged crate, counts as an empty one.
fn hash(path: &Path, hasher: &mut DefaultHasher) {
    let Ok(entries) = fs::read_dir(path) else {
        let bytes = fs::read(path).unwrap_or_default();
        [path.as_os_str().as_encoded_bytes(), &bytes].into_iter().for_each(|part| {
            hasher.write_usize(part.len());
            hasher.write(part);
        });
        return;
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort_unstable();
    paths.iter().for_each(|path| hash(path, hasher));
}
