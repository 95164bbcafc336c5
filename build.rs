//! How the program is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Two hundred thousand addresses of this program (most of them polars') are else put right each time that it starts,
    // and each job starts it: 3 ms of 6, and 2 of the 4 that a trivial job costs. What is lost is a random place for it in
    // memory.
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    let is_static = std::env::var("CARGO_CFG_TARGET_FEATURE").is_ok_and(|all| all.contains("crt-static"));
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") && !is_static {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
