//! How the program is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Two hundred thousand addresses of this program (most of them polars') are else put right each time that it starts,
    // and each job starts it: 3 ms of 6, and 2 of the 4 that a trivial job costs. What is lost is a random place for it in
    // memory.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
