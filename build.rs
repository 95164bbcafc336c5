//! How the program is linked, and by what it knows itself from any other.

use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::Path;

/// What the program is built from, but for the compiler.
const SOURCES: [&str; 3] = ["src", "Cargo.toml", "Cargo.lock"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let mut hasher = DefaultHasher::new();
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
        hash(Path::new(source), &mut hasher);
    }
    println!("cargo::rustc-env=REPRO_SOURCES={:016x}", hasher.finish());
    // Two hundred thousand addresses of this program (most of them polars') are else put right each time that it starts,
    // and each job starts it: 3 ms of 6, and 2 of the 4 that a trivial job costs. What is lost is a random place for it in
    // memory.
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    let is_static =
        std::env::var("CARGO_CFG_TARGET_FEATURE").is_ok_and(|all| all.contains("crt-static"));
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") && !is_static {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}

/// Hashes a file, or all below a folder, in an order of their own. What is not there, as the lock of a packaged crate may not
/// be, has no bytes.
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
