//! The bodies of objects in a remote cache: as they are, or compressed by zstd.
//!
//! A body that begins with the magic number of zstd is compressed. An object that begins with it
//! itself is therefore always compressed, so a reader needs no other mark.

use crate::engine::key::Digest;
use anyhow::{Context as _, Result};
use bytes::Bytes;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write};
use std::path::Path;
use zstd::stream::write::{Decoder, Encoder};

/// The first bytes of a zstd frame.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// zstd's default level.
const LEVEL: i32 = 3;

/// The largest window of a frame that is decompressed: 128 MiB, zstd's own default limit.
const MAX_WINDOW_LOG: u32 = 27;

/// Objects of up to this size are sent in one request; larger ones in parts of this size.
pub(super) const PART: usize = 8 << 20;

/// The size of a sample of a large object.
const SAMPLE: usize = 64 << 10;

/// Whether compression from `before` to `after` bytes pays: it saves an eighth.
fn pays(before: usize, after: usize) -> bool {
    after < before - before / 8
}

/// The body of an object in memory.
pub(super) fn encode(bytes: Vec<u8>) -> Bytes {
    // Text shows in its first part whether it can be compressed, and parameters of nets that they
    // cannot, so most of the time is not spent in vain.
    let sample = &bytes[..bytes.len().min(SAMPLE)];
    let is_marked = bytes.starts_with(&MAGIC);
    let compress = |bytes: &[u8]| zstd::bulk::compress(bytes, LEVEL).ok();
    let can_shrink = sample.len() == bytes.len()
        || compress(sample).is_some_and(|sample_body| pays(sample.len(), sample_body.len()));
    if (is_marked || can_shrink)
        && let Some(body) = compress(&bytes)
        && (is_marked || pays(bytes.len(), body.len()))
    {
        return body.into();
    }
    bytes.into()
}

/// A large file that is read, hashed, and perhaps compressed, part by part.
pub(super) struct Parts {
    file: File,
    hasher: blake3::Hasher,
    /// `None` if the file is sent as it is.
    encoder: Option<Encoder<'static, Vec<u8>>>,
    is_done: bool,
}

impl Parts {
    /// Opens the file and reads samples, which decide whether it is compressed.
    pub(super) fn open(path: &Path) -> Result<Parts> {
        let context = || format!("cannot read `{}`", path.display());
        let mut file = File::open(path).with_context(context)?;
        let bytes = file.metadata().with_context(context)?.len();
        let mut compress = true;
        for at in [0, bytes / 2, bytes.saturating_sub(SAMPLE as u64)] {
            let mut sample = Vec::new();
            file.seek(SeekFrom::Start(at)).with_context(context)?;
            (&file).take(SAMPLE as u64).read_to_end(&mut sample).with_context(context)?;
            if at == 0 && sample.starts_with(&MAGIC) {
                break;
            }
            let body = zstd::bulk::compress(&sample, LEVEL).with_context(context)?;
            compress &= pays(sample.len(), body.len());
        }
        file.rewind().with_context(context)?;
        let encoder = match compress {
            true => Some(Encoder::new(Vec::new(), LEVEL).context("cannot start zstd")?),
            false => None,
        };
        Ok(Parts { file, hasher: blake3::Hasher::new(), encoder, is_done: false })
    }

    /// The next part of the body; `None` at its end. All parts but the last have the size [`PART`].
    pub(super) fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut part = Vec::new();
        while !self.is_done && part.len() < PART {
            let mut chunk = Vec::with_capacity(PART - part.len());
            (&self.file).take((PART - part.len()) as u64).read_to_end(&mut chunk)?;
            self.hasher.update(&chunk);
            self.is_done = chunk.is_empty();
            match &mut self.encoder {
                None => part.append(&mut chunk),
                Some(encoder) => {
                    encoder.write_all(&chunk)?;
                    if self.is_done {
                        encoder.do_finish()?;
                    }
                    part.append(encoder.get_mut());
                }
            }
        }
        Ok(if part.is_empty() { None } else { Some(part.into()) })
    }

    /// The digest of the bytes that were read.
    pub(super) fn digest(&self) -> Digest {
        Digest::from(self.hasher.finalize())
    }
}

/// Writes bytes to a file, if there is one, and hashes them. Fails at the first byte beyond
/// `limit`.
struct Hashed {
    file: Option<File>,
    hasher: blake3::Hasher,
    written: u64,
    limit: Option<u64>,
    /// The error of the local disk, which is not a fault of the remote.
    local: Option<io::Error>,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.limit.is_some_and(|limit| self.written + bytes.len() as u64 > limit) {
            return Err(ErrorKind::FileTooLarge.into());
        }
        if let Some(Err(error)) = self.file.as_mut().map(|file| file.write_all(bytes)) {
            self.local = Some(error);
            return Err(ErrorKind::Other.into());
        }
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Form {
    /// Too few bytes to know.
    Unknown(Vec<u8>, Hashed),
    Plain(Hashed),
    Compressed(Box<Decoder<'static, Hashed>>),
}

/// Receives the body of an object, and writes the object.
pub(super) struct Sink {
    /// `None` after a failure.
    form: Option<Form>,
    fault: Option<String>,
    bytes: Option<u64>,
}

/// The end of a body.
pub(super) enum Received {
    /// The object's digest.
    Whole(Digest),
    /// The object cannot be read, and the reason.
    Damaged(String),
}

impl Sink {
    /// Writes to `file`, if there is one, an object of `bytes` bytes, if the size is known.
    pub(super) fn new(file: Option<File>, bytes: Option<u64>) -> Sink {
        let hasher = blake3::Hasher::new();
        let hashed = Hashed { file, hasher, written: 0, limit: bytes, local: None };
        Sink { form: Some(Form::Unknown(Vec::new(), hashed)), fault: None, bytes }
    }

    /// Adds a chunk of the body. Returns whether more can be used. Fails if the local disk does.
    pub(super) fn add(&mut self, chunk: &[u8]) -> io::Result<bool> {
        match self.form.take() {
            None => return Ok(false),
            Some(Form::Unknown(mut start, hashed)) => {
                start.extend_from_slice(chunk);
                match start.len() < MAGIC.len() {
                    true => self.form = Some(Form::Unknown(start, hashed)),
                    false => self.begin(&start, hashed)?,
                }
            }
            Some(Form::Plain(hashed)) => self.plain(hashed, chunk)?,
            Some(Form::Compressed(decoder)) => self.compressed(decoder, chunk)?,
        }
        Ok(self.form.is_some())
    }

    fn begin(&mut self, start: &[u8], hashed: Hashed) -> io::Result<()> {
        if !start.starts_with(&MAGIC) {
            return self.plain(hashed, start);
        }
        let mut decoder = Decoder::new(hashed)?;
        decoder.window_log_max(MAX_WINDOW_LOG)?;
        self.compressed(Box::new(decoder), start)
    }

    fn plain(&mut self, mut hashed: Hashed, chunk: &[u8]) -> io::Result<()> {
        match hashed.write_all(chunk) {
            Ok(()) => self.form = Some(Form::Plain(hashed)),
            Err(_) => self.fail(hashed.local)?,
        }
        Ok(())
    }

    fn compressed(
        &mut self,
        mut decoder: Box<Decoder<'static, Hashed>>,
        chunk: &[u8],
    ) -> io::Result<()> {
        match decoder.write_all(chunk) {
            Ok(()) => self.form = Some(Form::Compressed(decoder)),
            Err(error) if error.kind() == ErrorKind::FileTooLarge => {
                self.fail(None)?;
            }
            Err(_) => {
                let hashed = decoder.get_mut();
                let local = hashed.local.take();
                self.fail(local)?;
                self.fault = Some("cannot be decompressed".to_owned());
            }
        }
        Ok(())
    }

    fn fail(&mut self, local: Option<io::Error>) -> io::Result<()> {
        if let Some(error) = local {
            return Err(error);
        }
        self.fault = Some("is longer than its entry says".to_owned());
        Ok(())
    }

    /// Ends the body.
    pub(super) fn finish(mut self) -> io::Result<Received> {
        let hashed = match self.form.take() {
            None => None,
            Some(Form::Unknown(start, mut hashed)) => match hashed.write_all(&start) {
                Ok(()) => Some(hashed),
                Err(_) => {
                    self.fail(hashed.local.take())?;
                    None
                }
            },
            Some(Form::Plain(hashed)) => Some(hashed),
            Some(Form::Compressed(mut decoder)) => match decoder.flush() {
                Ok(()) => Some(decoder.into_inner()),
                Err(error) => {
                    if let Some(local) = decoder.get_mut().local.take() {
                        return Err(local);
                    }
                    let is_long = error.kind() == ErrorKind::FileTooLarge;
                    let fault =
                        if is_long { "is longer than its entry says" } else { "is truncated" };
                    self.fault = Some(fault.to_owned());
                    None
                }
            },
        };
        let Some(hashed) = hashed else {
            return Ok(Received::Damaged(self.fault.unwrap_or_default()));
        };
        if let Some(bytes) = self.bytes.filter(|bytes| hashed.written < *bytes) {
            let fault = format!("is truncated: it has {} of {bytes} bytes", hashed.written);
            return Ok(Received::Damaged(fault));
        }
        Ok(Received::Whole(Digest::from(hashed.hasher.finalize())))
    }
}

/// The bytes of a small object, which has at most `limit` bytes; or the reason why it cannot be
/// read.
pub(super) fn decode(body: &[u8], limit: usize) -> Result<Vec<u8>, String> {
    if !body.starts_with(&MAGIC) {
        return Ok(body.to_vec());
    }
    zstd::bulk::decompress(body, limit).map_err(|_| "cannot be decompressed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds a body in chunks of some size.
    fn receive(body: &[u8], chunk: usize, bytes: Option<u64>) -> Received {
        let mut sink = Sink::new(None, bytes);
        for chunk in body.chunks(chunk.max(1)) {
            if !sink.add(chunk).unwrap() {
                break;
            }
        }
        sink.finish().unwrap()
    }

    fn fault(received: Received) -> String {
        match received {
            Received::Damaged(fault) => fault,
            Received::Whole(_) => "none".to_owned(),
        }
    }

    proptest! {
        #[test]
        fn an_object_is_read_as_it_was_written(
            start: bool, bytes: Vec<u8>, repeat in 1..200_usize, chunk in 1..70_usize
        ) {
            let mut object = if start { MAGIC.to_vec() } else { Vec::new() };
            object.extend(bytes.repeat(repeat));
            let body = encode(object.clone());
            match receive(&body, chunk, Some(object.len() as u64)) {
                Received::Whole(digest) => prop_assert_eq!(digest, Digest::of(&object)),
                Received::Damaged(fault) => prop_assert!(false, "{}", fault),
            }
            prop_assert_eq!(decode(&body, object.len() + 1).unwrap(), object);
        }
    }

    #[test]
    fn text_is_compressed_and_noise_is_not() {
        let text = "0.125,0.25\n".repeat(20_000).into_bytes();
        assert!(encode(text.clone()).len() < text.len() / 10);
        let mut noise = vec![0; 100_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        assert_eq!(encode(noise.clone()), noise);
    }

    #[test]
    fn a_large_file_is_read_in_parts_compressed_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut noise = vec![0; 2 * PART + 5];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        for bytes in [noise, b"0.125,0.25\n".repeat(2_000_000)] {
            std::fs::write(&path, &bytes).unwrap();
            let mut parts = Parts::open(&path).unwrap();
            let mut body = Vec::new();
            while let Some(part) = parts.next().unwrap() {
                body.extend(part);
            }
            assert_eq!(parts.digest(), Digest::of(&bytes));
            let received = receive(&body, 1 << 16, Some(bytes.len() as u64));
            assert!(matches!(received, Received::Whole(digest) if digest == Digest::of(&bytes)));
        }
    }

    #[test]
    fn a_damaged_body_is_reported_by_its_fault() {
        let text = b"0.125,0.25\n".repeat(2_000);
        let (body, bytes) = (encode(text.clone()), Some(text.len() as u64));
        let half = fault(receive(&body[..body.len() / 2], 10, bytes));
        assert!(half.starts_with("is truncated"), "{half}");
        assert_eq!(
            fault(receive(&text[..100], 10, bytes)),
            "is truncated: it has 100 of 22000 bytes"
        );
        assert_eq!(fault(receive(&body, 10, Some(100))), "is longer than its entry says");
        assert_eq!(fault(receive(&text, 10, Some(100))), "is longer than its entry says");
        let mut other = body.to_vec();
        other[10] ^= 0xff;
        assert!(!matches!(
            receive(&other, 10, bytes),
            Received::Whole(digest) if digest == Digest::of(&text)
        ));
    }
}
