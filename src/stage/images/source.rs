//! Which files and arrays have the images and the labels of a set.
//!
//! They are found by their names, in the ways in which people name the files of MNIST and of
//! datasets like it, or, for two files that are listed, by their contents. Only the files of the
//! set's own field are searched.

use super::{has_below, last};
use crate::engine::stage::{Hinted, Input};
use crate::fs;
use crate::stage::texts::Text;
use crate::study::data::array::{Array, ArrayError, is_idx, read_idx};
use crate::study::data::npz::{JOIN, NPY, Npz};
use anyhow::{Result, bail};

/// The two sets that a dataset comes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Train,
    Test,
}

impl Role {
    fn field(self) -> &'static str {
        match self {
            Role::Train => "train",
            Role::Test => "test",
        }
    }

    /// The set that the name of a file shows.
    fn of_file(path: &str) -> Option<Role> {
        let name = last(path).to_ascii_lowercase();
        if name.contains("t10k") || name.contains("test") {
            return Some(Role::Test);
        }
        name.contains("train").then_some(Role::Train)
    }

    /// The set that the name of the folder around a file shows.
    fn of_folder(path: &str) -> Option<Role> {
        path.rsplit_once('/').and_then(|(folder, _)| Role::of_words(folder))
    }

    /// The set that a word of the last component shows: of `Test-2`, but not of `latest`.
    fn of_words(path: &str) -> Option<Role> {
        let name = last(path).to_ascii_lowercase();
        let words = || name.split(|c: char| !c.is_ascii_alphanumeric());
        if words().any(|word| word.starts_with("t10k") || word.starts_with("test")) {
            return Some(Role::Test);
        }
        words().any(|word| word.starts_with("train")).then_some(Role::Train)
    }
}

/// One of the two files of a set.
struct Part {
    name: &'static str,
    /// The words in the name of the file.
    words: &'static [&'static str],
    /// The dimensions of the array.
    dimensions: usize,
}

const IMAGES: Part = Part { name: "images", words: &["image", "imgs"], dimensions: 3 };
const LABELS: Part = Part { name: "labels", words: &["label"], dimensions: 1 };

impl Part {
    /// Whether the name of a file says that it is this part of a set.
    fn is_in(&self, path: &str) -> bool {
        let name = last(path).to_ascii_lowercase();
        self.words.iter().any(|word| name.contains(word))
    }
}

pub(super) fn hinted(ArrayError { cause, hint }: ArrayError) -> Hinted {
    Hinted::new(cause, hint)
}

pub(super) fn is_npz(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".npz")
}

/// Names of the arrays of images and of labels.
const ARRAYS: [(&str, &str); 4] = [("x_", "y_"), ("X_", "y_"), ("X_", "Y_"), ("x", "y")];

/// What a set is read from.
pub(super) struct Source<'a> {
    /// All files of the stage.
    files: &'a Input,
    role: Role,
    /// The paths of the set, by which `files` names files.
    paths: &'a [Text],
    /// The paths of the other set.
    others: &'a [Text],
    /// Whether the other set has paths of its own.
    is_apart: bool,
}

impl<'a> Source<'a> {
    /// The set `role` in `paths`, beside the other set in `others`.
    pub(super) fn new(
        files: &'a Input,
        role: Role,
        paths: &'a [Text],
        others: &'a [Text],
    ) -> Source<'a> {
        Source { files, role, paths, others, is_apart: paths != others }
    }

    /// The images and the labels.
    pub(super) fn arrays(&self) -> Result<(Array, Array)> {
        match self.paths {
            [images, labels] => {
                let [a, b] = [images, labels].map(|file| self.file(&file.0));
                let (a, b) = (a?, b?);
                Ok(if a.is_flat() { (b, a) } else { (a, b) })
            }
            [one] if is_npz(&one.0) && self.files.artifact.contains_key(&one.0) => {
                self.npz(&one.0, true)
            }
            [one] => self.folder(&one.0),
            _ => bail!("BUG: `{}` does not name one or two files", self.role.field()),
        }
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        fs::read(self.files.path(name)?)
    }

    /// The array in one of two files: an IDX file, or an `.npz` of one array.
    fn file(&self, name: &str) -> Result<Array> {
        let field = self.role.field();
        if !self.files.artifact.contains_key(name) {
            let cause = format!("`{name}` in `{field}` is a folder");
            return Err(Hinted::new(cause, "list two files, or one folder that has both").into());
        }
        let bytes = self.bytes(name)?;
        if !is_npz(name) {
            return Ok(read_idx(name, &bytes).map_err(hinted)?);
        }
        let mut archive = Npz::open(name, &bytes).map_err(hinted)?;
        match &archive.names()[..] {
            [one] => Ok(archive.array(one).map_err(hinted)?),
            names => {
                let cause = format!("`{name}` has {}, not one array", listed(names));
                Err(Hinted::new(cause, format!("write `{field}: {name}`")).into())
            }
        }
    }

    /// The images and labels in an `.npz`; `x` and `y` if the archive is of this set alone.
    /// `is_named` is whether the field names the archive itself.
    fn npz(&self, name: &str, is_named: bool) -> Result<(Array, Array)> {
        let field = self.role.field();
        let bytes = self.bytes(name)?;
        let mut archive = Npz::open(name, &bytes).map_err(hinted)?;
        let names = archive.names();
        let pairs = ARRAYS.map(|(x, y)| match x.ends_with('_') {
            true => [x, y].map(|start| format!("{start}{field}")),
            false => [x.to_owned(), y.to_owned()],
        });
        let is_plain = |pair: &[String; 2]| pair[0].len() == 1;
        let has = |pair: &&[String; 2]| {
            (self.is_apart || !is_plain(pair)) && pair.iter().all(|name| names.contains(name))
        };
        let Some(pair) = pairs.iter().find(has) else {
            let missing = pairs[0].iter().find(|name| !names.contains(name));
            let missing = missing.unwrap_or(&pairs[0][0]);
            let cause = format!("`{name}` has no array `{missing}`; it has {}", listed(&names));
            let hint = match self.is_apart {
                true => format!("expected `x_{field}` and `y_{field}`, or `x` and `y`"),
                false => "expected `x_train`, `y_train`, `x_test` and `y_test`".to_owned(),
            };
            return Err(Hinted::new(cause, hint).into());
        };
        let [x, y] = pair;
        let shown = Role::of_words(name).or_else(|| Role::of_folder(name));
        if let Some(other) = shown.filter(|role| *role != self.role)
            && is_plain(pair)
            && !is_named
        {
            let cause = format!(
                "`{name}`, the archive of `{field}`, has `{x}` and `{y}`, but is called `{}`",
                other.field()
            );
            let hint = format!("exchange the folders; or name the archive itself in `{field}`");
            return Err(Hinted::new(cause, hint).into());
        }
        let (x, y) = (archive.array(x).map_err(hinted)?, archive.array(y).map_err(hinted)?);
        Ok((x, y))
    }

    /// The IDX files in a folder, or the `.npz` in it.
    fn folder(&self, path: &str) -> Result<(Array, Array)> {
        let field = self.role.field();
        let names = self.names_in(path);
        if names.is_empty() && is_npz(path) {
            let cause = format!("`{path}` in `{field}` is a folder");
            return Err(Hinted::new(cause, "name the `.npz` in it").into());
        }
        let archives: Vec<&str> = names.iter().copied().filter(|name| is_npz(name)).collect();
        match archives[..] {
            [] => {
                let (images, labels) =
                    (self.find(path, &names, &IMAGES)?, self.find(path, &names, &LABELS)?);
                let read = |name: &str| -> Result<Array> {
                    Ok(read_idx(name, &self.bytes(name)?).map_err(hinted)?)
                };
                Ok((read(images)?, read(labels)?))
            }
            [one] => {
                let idx = self.idx_files(&names)?;
                if !idx.is_empty() {
                    let cause = format!(
                        "`{path}` has both an archive, `{one}`, and IDX files, {}",
                        listed(&idx)
                    );
                    let hint = format!("name one: in `{field}`, the `.npz` or `[IMAGES, LABELS]`");
                    return Err(Hinted::new(cause, hint).into());
                }
                self.npz(one, false)
            }
            _ => {
                let n = if archives.len() == 2 { "two" } else { &*archives.len().to_string() };
                let cause = format!("`{path}` has {n} archives, {}", listed(&archives));
                Err(Hinted::new(cause, format!("name one of them in `{field}`")).into())
            }
        }
    }

    /// The names of the set's own files; `path` is its folder. Hidden files are not data: macOS
    /// writes `._a` beside `a`.
    fn names_in(&self, path: &str) -> Vec<&str> {
        let is_at = |path: &str, name: &str| name == path || has_below(path, name);
        // What the other field names in this folder is of the other set.
        let is_other = |name: &str| {
            let others = self.others.iter().map(|other| &*other.0);
            others.filter(|other| has_below(path, other)).any(|other| is_at(other, name))
        };
        let is_own = |name: &str| !self.is_apart || is_at(path, name) && !is_other(name);
        let is_data = |name: &str| !name.ends_with('/') && !last(name).starts_with('.');
        let names = self.files.artifact.keys().map(String::as_str);
        names.filter(|name| is_own(name) && is_data(name)).collect()
    }

    /// The files that are IDX files of images or labels by name and content.
    fn idx_files<'n>(&self, names: &[&'n str]) -> Result<Vec<&'n str>> {
        let mut found = Vec::new();
        for name in names {
            let is_part = IMAGES.is_in(name) || LABELS.is_in(name);
            if is_part && is_idx(&self.bytes(name)?) {
                found.push(*name);
            }
        }
        Ok(found)
    }

    /// The file of `names`, those in `path`, that has a part of this set.
    fn find<'n>(&self, path: &str, names: &[&'n str], part: &Part) -> Result<&'n str> {
        // How clearly a name shows the set: by itself, by its folder, or only by its field.
        let rank = |name: &str| match Role::of_file(name) {
            Some(role) => (role == self.role).then_some(0),
            None => match Role::of_folder(name) {
                Some(role) => (role == self.role).then_some(1),
                None => self.is_apart.then_some(2),
            },
        };
        let named = || names.iter().copied().filter(|name| part.is_in(name));
        let best = named().filter_map(rank).min();
        let found: Vec<&str> =
            named().filter(|name| best.is_some() && rank(name) == best).collect();
        // torchvision keeps the gzipped files beside the unpacked ones.
        let is_unpacked =
            |name: &str| name.strip_suffix(".gz").is_none_or(|plain| !found.contains(&plain));
        let kept: Vec<&str> = found.iter().copied().filter(|name| is_unpacked(name)).collect();
        let (field, part_name) = (self.role.field(), part.name);
        match kept[..] {
            [one] => Ok(one),
            [] => {
                let among = match names {
                    [] => format!("in `{path}`"),
                    names => format!("among {}", listed(names)),
                };
                let cause = format!("there is no file of {part_name} for `{field}` {among}");
                if names.iter().any(|name| name.ends_with(NPY)) {
                    return Err(Hinted::new(cause, JOIN).into());
                }
                let usual = if self.role == Role::Train { "train" } else { "t10k" };
                let hint = format!(
                    "expected a name such as `{usual}-{part_name}-idx{}-ubyte.gz`; or list the \
                     files: `{field}: [IMAGES, LABELS]`",
                    part.dimensions
                );
                Err(Hinted::new(cause, hint).into())
            }
            _ => {
                let cause =
                    format!("several files have {part_name} for `{field}`: {}", listed(&kept));
                let hint = format!("list two files: `{field}: [IMAGES, LABELS]`");
                Err(Hinted::new(cause, hint).into())
            }
        }
    }
}

/// The first few names, as text.
fn listed(names: &[impl AsRef<str>]) -> String {
    const MOST: usize = 8;
    let shown = names.iter().take(MOST).map(|name| {
        let name: String = name.as_ref().chars().take(80).flat_map(char::escape_debug).collect();
        format!("`{name}`")
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "no arrays".to_owned(),
        n if n > MOST => format!("{shown} and {} more", n - MOST),
        _ => shown,
    }
}
