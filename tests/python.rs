//! Python scripts of examples and documentation, and nets in their place where Python has no
//! PyTorch.

use crate::space::Space;
use std::io::Write as _;
use std::process::Command;

/// Python: the one in `REPRO_PYTHON`, by default `python3`.
fn interpreter() -> String {
    std::env::var("REPRO_PYTHON").unwrap_or_else(|_| "python3".into())
}

/// The absolute path of Python, for commands, which have another `PATH`.
pub(crate) fn executable() -> String {
    let words = ["-c", "import sys; print(sys.executable)"];
    let output = Command::new(interpreter()).args(words).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Whether Python has the packages that a script imports. If not, says so, and fails if
/// `REPRO_REQUIRE` contains the name of a missing package.
pub(crate) fn can_run(name: &str, script: &str) -> bool {
    let is_import = |line: &&str| line.starts_with("import ") || line.starts_with("from ");
    let imports: Vec<&str> = script.lines().filter(is_import).collect();
    let python = interpreter();
    let has = |import: &str| {
        let imported = Command::new(&python).args(["-c", import]).output();
        imported.is_ok_and(|output| output.status.success())
    };
    let Some(missing) = imports.iter().find(|import| !has(import)) else { return true };
    let package = missing.split([' ', '.', ',']).nth(1).unwrap();
    let required = std::env::var("REPRO_REQUIRE").unwrap_or_default();
    assert!(required.split(',').all(|word| word != package), "`{python}` has no `{package}`");
    // The test runner captures what a test prints, but not this.
    let _ = writeln!(std::io::stderr(), "skipped: `{name}`, since `{python}` has no `{package}`");
    false
}

/// Runs a script of the project, and returns what it prints; `None` if a package is missing.
#[track_caller]
pub(crate) fn run(space: &Space, script: &str, arguments: &[&str]) -> Option<String> {
    if !can_run(script, &space.read(script)) {
        return None;
    }
    let words = [&[script], arguments].concat();
    let output = space.command_for(&interpreter(), &words).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

/// Writes three nets with biases to `PREFIX1.safetensors` and so on, which this program trains on
/// the images of `fetch`, in place of nets of another program.
pub(crate) fn save_nets(space: &Space, fetch: &str, hidden: &str, prefix: &str) {
    let trained = Space::with(&format!(
        "stages:\n  data: {{ fetch: {{ {fetch} }} }}\n  nets: {{ train: {{ data: data, \
         hidden: {hidden}, bias: true, net: [1, 2, 3], epochs: 3 }} }}\n"
    ));
    trained.ok(&["run"]);
    for net in 1..=3 {
        let object =
            trained.object(&trained.digests()[&format!("nets@net={net}")]["net.safetensors"]);
        space.write(&format!("{prefix}{net}.safetensors"), std::fs::read(object).unwrap());
    }
}
