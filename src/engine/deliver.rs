//! Lays outputs out for people: `reports/<profile>/`, kept equal to the cache.
//!
//! The folder is a copy that may be edited or deleted at will; the next run restores it. Files there that are not ours
//! are left alone.

use super::key::{Artifact, Digest};
use super::store::Store;
use crate::fs;
use anyhow::Result;
use std::path::Path;

/// Makes the files of `artifact` lie in `folder`; gives how many had to be written.
pub fn deliver(store: &Store, artifact: &Artifact, folder: &Path) -> Result<usize> {
    let mut written = 0;
    for (name, digest) in artifact {
        let path = folder.join(name);
        // A folder or an unreadable file in its place is an error that the write below reports.
        if std::fs::read(&path).is_ok_and(|bytes| Digest::of(&bytes) == *digest) {
            continue;
        }
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent)?;
        fs::write_atomic(&path, parent, &fs::read(&store.object(*digest))?)?;
        make_readable(&path)?;
        written += 1;
    }
    Ok(written)
}

/// Temporary files are private; a delivered one is for everyone, as far as the user's mask allows by default.
fn make_readable(path: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use anyhow::Context as _;
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))
            .with_context(|| format!("cannot make `{}` readable", path.display()))?;
    }
    Ok(())
}
