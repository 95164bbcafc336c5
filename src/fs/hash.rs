//! BLAKE3 of files.

use super::read::open_regular;
use super::{at, operation};
use anyhow::Result;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::LazyLock;

/// The number of bytes that are read at a time, enough to keep all cores busy between two reads.
const CHUNK: u64 = 16 << 20;

/// The smallest size in bytes for which hashing on all cores is faster.
const PARALLEL: usize = 1 << 20;

/// The BLAKE3 of a file, computed on all cores if the file is large. The file is read, not mapped:
/// with a memory map, a read error or a file that is truncated meanwhile kills the process with a
/// signal.
pub fn hash(path: &Path) -> Result<blake3::Hash> {
    let hashed = operation(|| {
        let (file, meta) = open_regular(path)?;
        hash_bytes(file, meta.len())
    });
    at("read", path, hashed)
}

/// The BLAKE3 of the first `length` bytes. Fails if there are fewer.
fn hash_bytes(mut bytes: impl io::Read, length: u64) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut chunk = Vec::new();
    // A vector that grows while it is filled takes up to three times the memory.
    chunk.try_reserve_exact(CHUNK.min(length) as usize)?;
    while hasher.count() < length {
        chunk.clear();
        bytes.by_ref().take(CHUNK.min(length - hasher.count())).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            let message = "it was truncated while it was read";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        if chunk.len() >= PARALLEL && has_thread_pool() {
            hasher.update_rayon(&chunk);
        } else {
            hasher.update(&chunk);
        }
    }
    Ok(hasher.finalize())
}

/// Starts rayon's global thread pool at the first call, and returns whether it started. rayon's own
/// lazy start panics if the system refuses a thread.
pub fn has_thread_pool() -> bool {
    static STARTED: LazyLock<bool> =
        LazyLock::new(|| rayon::ThreadPoolBuilder::new().build_global().is_ok());
    *STARTED
}

#[cfg(test)]
mod tests {
    use super::super::is_errno;
    use super::*;
    use rustix::io::Errno;
    use std::fs::{self, File};

    #[test]
    fn a_file_of_any_size_has_the_hash_of_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for size in [0, 1, CHUNK as usize, CHUNK as usize + 1, 3 * CHUNK as usize] {
            let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            fs::write(&path, &bytes).unwrap();
            assert_eq!(hash(&path).unwrap(), blake3::hash(&bytes), "{size}");
        }
    }

    #[test]
    fn a_read_error_or_a_truncated_file_is_an_error() {
        struct Broken;
        impl io::Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(Errno::IO.into())
            }
        }
        let start = || io::repeat(b'x').take(CHUNK);
        assert!(hash_bytes(start(), CHUNK).is_ok());
        let truncated = hash_bytes(start(), CHUNK + 1).unwrap_err();
        assert_eq!(truncated.to_string(), "it was truncated while it was read");
        let broken = hash_bytes(start().chain(Broken), 2 * CHUNK).unwrap_err();
        assert!(is_errno(&broken, Errno::IO));
    }

    #[test]
    fn truncating_a_file_while_it_is_hashed_raises_no_signal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, vec![b'x'; 8 << 20]).unwrap();
        let writer = File::options().write(true).open(&path).unwrap();
        let truncating = std::thread::spawn(move || {
            for _ in 0..200 {
                writer.set_len(1).unwrap();
                writer.set_len(8 << 20).unwrap();
            }
        });
        while !truncating.is_finished() {
            if let Err(error) = hash(&path) {
                assert!(format!("{error:#}").starts_with("cannot read `"), "{error:#}");
            }
        }
        truncating.join().unwrap();
    }
}
