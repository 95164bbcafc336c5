//! `repro completions`: scripts that set up shell completion.

use super::args::complete::VARIABLE;
use anyhow::{Context as _, Result};
use clap_complete::Shell;
use clap_complete::env::Shells;

/// Bash splits words at `@`, `=` and `:`. The script therefore reads the word from the line, and
/// removes the part up to the last of these characters from each completion.
const BASH: &str = r#"_repro() {
    local line="${COMP_LINE:0:COMP_POINT}" words
    read -ra words <<< "$line"
    [[ "$line" == *" " ]] && words+=("")
    local word="${words[-1]}"
    local IFS=$'\n'
    COMPREPLY=($(_CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) REPRO_COMPLETE=bash \
        "${words[0]}" -- "${words[@]}" 2> /dev/null))
    COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*[@=:]}"}"}")
    [[ "${COMPREPLY[0]}" == *@ ]] && compopt -o nospace 2> /dev/null
    return 0
}
complete -o default -F _repro repro
"#;

/// The script that registers completion with `shell`.
pub(super) fn script(shell: Shell) -> Result<String> {
    if shell == Shell::Bash {
        return Ok(BASH.to_owned());
    }
    let (name, shells) = (shell.to_string(), Shells::builtins());
    let completer =
        shells.completer(&name).with_context(|| format!("no completion for `{name}`"))?;
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, "repro", "repro", "repro", &mut script)?;
    Ok(String::from_utf8_lossy(&script).into_owned())
}
