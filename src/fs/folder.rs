//! Folders: listing, creating and removing them.

use super::{at, if_exists, metadata_if_exists, operation};
use anyhow::Result;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use tempfile::TempDir;

/// Creates a folder and its parents.
pub fn create_dir_all(path: &Path) -> Result<()> {
    at("create the folder", path, operation(|| fs::create_dir_all(path)))
}

/// A new folder in `folder`, removed when dropped.
pub fn temporary_folder(folder: &Path) -> Result<TempDir> {
    let permissions = Permissions::from_mode(0o777);
    let new = || tempfile::Builder::new().permissions(permissions).tempdir_in(folder);
    at("create a temporary folder in", folder, operation(new))
}

/// Makes `path` an empty folder and returns its metadata. Keeps an empty folder with the inode and
/// mode of `previous`.
pub fn empty_folder(path: &Path, previous: Option<&Metadata>) -> Result<Metadata> {
    let attempt = || -> io::Result<Metadata> {
        let same = |meta: &Metadata| {
            previous.is_some_and(|previous| {
                (previous.ino(), previous.mode()) == (meta.ino(), meta.mode())
            })
        };
        match fs::symlink_metadata(path) {
            Ok(meta) if same(&meta) && fs::read_dir(path)?.next().is_none() => return Ok(meta),
            Ok(meta) if meta.is_dir() => remove_tree(path)?,
            Ok(_) => fs::remove_file(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        fs::create_dir(path)?;
        fs::symlink_metadata(path)
    };
    at("create the folder", path, operation(attempt))
}

/// Removes a folder with its content, read-only folders included, if it exists.
pub fn remove_folder_if_exists(path: &Path) -> Result<()> {
    at("remove", path, if_exists(operation(|| remove_tree(path)))).map(drop)
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(path)?;
            fs::remove_dir_all(path)
        }
        removed => removed,
    }
}

/// Gives the owner all permissions on `folder` and the folders below it. Links are not followed.
fn make_writable(folder: &Path) -> io::Result<()> {
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        let meta = fs::symlink_metadata(&folder)?;
        if !meta.is_dir() {
            continue;
        }
        let mode = meta.permissions().mode();
        if mode & 0o700 != 0o700 {
            fs::set_permissions(&folder, Permissions::from_mode(mode | 0o700))?;
        }
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    Ok(())
}

/// The names in a folder, sorted.
pub fn entries(path: &Path) -> Result<Vec<OsString>> {
    at("list", path, operation(|| names(path)))
}

/// The names in a folder that are UTF-8, sorted; empty if the folder does not exist.
pub fn list(path: &Path) -> Result<Vec<String>> {
    let names = at("list", path, if_exists(operation(|| names(path))))?.unwrap_or_default();
    Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

/// The inodes of the names in a folder that are UTF-8, without a look at each file; empty if the
/// folder does not exist.
pub fn inodes(path: &Path) -> Result<BTreeMap<String, u64>> {
    let read = || -> io::Result<BTreeMap<String, u64>> {
        let mut inodes = BTreeMap::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            inodes.extend(entry.file_name().into_string().ok().map(|name| (name, entry.ino())));
        }
        Ok(inodes)
    };
    Ok(at("list", path, if_exists(operation(read)))?.unwrap_or_default())
}

fn names(path: &Path) -> io::Result<Vec<OsString>> {
    let names = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name()));
    let mut names = names.collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}

/// The bytes of all files in a folder and below it. Links are not followed.
pub fn size_of_tree(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for name in entries(folder)? {
        let path = folder.join(name);
        bytes += match metadata_if_exists(&path)? {
            Some(meta) if meta.is_dir() => size_of_tree(&path)?,
            Some(meta) => meta.len(),
            None => 0,
        };
    }
    Ok(bytes)
}

/// The content of a folder and the folders below it, by relative path, sorted folder by folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// The regular files.
    pub files: Vec<String>,
    /// The folders without content; each name ends with a slash.
    pub empty_folders: Vec<String>,
    /// All other paths, with the reason why each cannot be used. A name that is not UTF-8 is shown
    /// lossily.
    pub others: Vec<(String, &'static str)>,
}

/// Lists the content of a folder and the folders below it, without the paths in `exclude`.
pub fn tree(folder: &Path, exclude: &[&str]) -> Result<Tree> {
    fn walk(folder: &Path, prefix: &str, exclude: &[&str], found: &mut Tree) -> Result<()> {
        let names = entries(folder)?;
        if names.is_empty() && !prefix.is_empty() {
            found.empty_folders.push(prefix.to_owned());
        }
        for name in names {
            let path = folder.join(&name);
            let relative = format!("{prefix}{}", name.to_string_lossy());
            if exclude.contains(&relative.as_str()) {
                continue;
            }
            if name.to_str().is_none() {
                found.others.push((relative, "has a name that is not UTF-8"));
                continue;
            }
            match at("read", &path, fs::symlink_metadata(&path))? {
                meta if meta.is_dir() => walk(&path, &format!("{relative}/"), exclude, found)?,
                meta if meta.is_file() => found.files.push(relative),
                _ => found.others.push((relative, "is neither a file nor a folder")),
            }
        }
        Ok(())
    }
    let mut found = Tree::default();
    walk(folder, "", exclude, &mut found)?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_with_read_only_folders_is_removed_and_nothing_outside_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let mode = |name: &str| fs::metadata(path(name)).unwrap().permissions().mode() & 0o777;
        let modes = [
            ("tree/a/b/file", 0o400),
            ("tree/a/b", 0o000),
            ("tree/a", 0o555),
            ("tree/c", 0o750),
            ("out", 0o500),
        ];
        fs::create_dir_all(path("tree/a/b")).unwrap();
        fs::create_dir_all(path("tree/c")).unwrap();
        fs::create_dir_all(path("out")).unwrap();
        fs::write(path("tree/a/b/file"), "").unwrap();
        std::os::unix::fs::symlink(path("out"), path("tree/link")).unwrap();
        for (name, mode) in modes {
            fs::set_permissions(path(name), Permissions::from_mode(mode)).unwrap();
        }
        make_writable(&path("tree")).unwrap();
        let after = ["tree/a/b/file", "tree/a/b", "tree/a", "tree/c", "out"].map(mode);
        assert_eq!(after, [0o400, 0o700, 0o755, 0o750, 0o500]);
        remove_folder_if_exists(&path("tree")).unwrap();
        assert!(!path("tree").exists() && path("out").exists());
    }

    #[test]
    fn links_and_names_that_are_not_utf_8_are_listed_apart_with_the_reason() {
        use std::os::unix::{ffi::OsStrExt as _, fs::symlink};
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &[u8]| dir.path().join(std::ffi::OsStr::from_bytes(name));
        for folder in [&b"a"[..], b"b", b"\xff", b"a/empty", b"b/empty"] {
            fs::create_dir(path(folder)).unwrap();
        }
        for file in [&b"a/deep"[..], b"a/\xfe.csv", b"b/given", b"last", b"\xff/lost"] {
            fs::write(path(file), "").unwrap();
        }
        symlink("last", path(b"a/link")).unwrap();
        symlink("a", path(b"link")).unwrap();
        let [special, foreign] = ["is neither a file nor a folder", "has a name that is not UTF-8"];
        let others = [
            ("a/link", special),
            ("a/\u{fffd}.csv", foreign),
            ("link", special),
            ("\u{fffd}", foreign),
        ];
        let others = others.map(|(name, reason)| (name.to_owned(), reason)).into();
        let files = ["a/deep", "last"].map(str::to_owned).into();
        let empty_folders = vec!["a/empty/".to_owned()];
        assert_eq!(tree(dir.path(), &["b"]).unwrap(), Tree { files, empty_folders, others });
    }
}
