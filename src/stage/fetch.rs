//! `fetch`: fetches a dataset, verifies it, and selects and splits its images.
//!
//! This is the only stage that reads outside its workspace: the folder in `REPRO_DATA` or, if that
//! is not set, the dataset's mirrors. Neither can change the result, since every byte is checked
//! against published digests. If `REPRO_DATA` is set and the folder does not contain the dataset,
//! the stage fails rather than using another source.

use super::artifact::{
    DATA_CARD, DataCard, DataName, IMAGES, ImageFormat, write_examples, write_json,
};
use crate::engine::stage::{Context, Hinted, Invocation, Slot, Stage, Unavailable};
use crate::fs;
use crate::study::bounded::ImageCount;
use crate::study::data::digits::digits;
use crate::study::data::published::{self, Published, PublishedDigest, PublishedFile, published};
use crate::study::data::{Dataset, Examples, Split};
use crate::study::net::CLASSES;
use anyhow::{Context as _, Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::config::ConfigBuilder;
use ureq::typestate::AgentScope;

pub(super) struct FetchStage;

/// The environment variable with the data folder.
pub const DATA_VARIABLE: &str = "REPRO_DATA";

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    dataset: Dataset,
    /// The dataset to use if the first one is unavailable.
    #[serde(default)]
    otherwise: Option<Dataset>,
    /// The number of training images, taken from the beginning; all by default.
    #[serde(default)]
    train: Option<ImageCount>,
    /// The number of test images, taken from the beginning; all by default.
    #[serde(default)]
    test: Option<ImageCount>,
    /// The number of training images to hold out for validation, drawn by seed.
    #[serde(default)]
    validation: u32,
}

/// The number of images in every dataset.
const TRAIN: u32 = 60_000;
const TEST: u32 = 10_000;

impl Stage for FetchStage {
    const NAME: &'static str = "fetch";
    const VERSION: u32 = 1;
    const SLOTS: &'static [Slot] = &[];
    const OUTPUTS: &'static [&'static str] =
        &[DATA_CARD, IMAGES[0], IMAGES[1], IMAGES[2], IMAGES[3], IMAGES[4], IMAGES[5]];
    type Params = Params;

    fn check(params: &Params) -> Result<(), Hinted> {
        let train = params.train.map_or(TRAIN, ImageCount::get);
        let test = params.test.map_or(TEST, ImageCount::get);
        if train > TRAIN || test > TEST {
            return Err(Hinted::new(
                format!("{train} training and {test} test images are more than the dataset has"),
                format!("use at most {TRAIN} and {TEST}"),
            ));
        }
        if params.validation >= train {
            let held_out = params.validation;
            return Err(Hinted::new(
                format!("holding out {held_out} of {train} training images leaves none"),
                "hold out fewer",
            ));
        }
        Ok(())
    }

    /// A published dataset without a validation split does not depend on the seed.
    fn label(params: &Params) -> Option<String> {
        let draws = params.dataset.is_generated() || params.validation > 0;
        draws.then(|| "data".to_owned())
    }

    fn fallback(params: &Params) -> Option<Params> {
        params.otherwise.map(|dataset| Params { dataset, otherwise: None, ..*params })
    }

    fn key_params(params: Params, _: &Invocation) -> Params {
        Params { otherwise: None, ..params }
    }

    fn run(params: Params, cx: &Context) -> Result<()> {
        let seed = cx.recipe().seed.as_ref().map_or("", |seed| &seed.run);
        let (train, test) = (
            params.train.map_or(TRAIN, ImageCount::get),
            params.test.map_or(TEST, ImageCount::get),
        );
        let (mut training, mut testing) = match published(params.dataset) {
            Some(published) => read(published)?,
            None => digits(seed, train as usize, test as usize),
        };
        training.truncate(train as usize);
        testing.truncate(test as usize);
        let (training, held_out) = training.split_off(params.validation as usize, seed);
        let parts: [(Split, &Examples); 3] =
            [(Split::Train, &training), (Split::Validation, &held_out), (Split::Test, &testing)];
        parts
            .into_iter()
            .try_for_each(|(split, examples)| write_examples(cx, split, examples, CLASSES))?;
        let card = DataCard {
            dataset: DataName::Known(params.dataset),
            train: training.len(),
            validation: held_out.len(),
            test: testing.len(),
            images: ImageFormat::default(),
        };
        write_json(&cx.output(DATA_CARD), &card)
    }
}

/// The training and test sets of a published dataset.
fn read(published: &Published) -> Result<(Examples, Examples)> {
    let folder =
        std::env::var_os(DATA_VARIABLE).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let mut files: [Vec<u8>; 4] = Default::default();
    for (file, bytes) in published.files.iter().zip(&mut files) {
        *bytes = match &folder {
            Some(folder) => from_folder(folder, published, file)?,
            None => from_mirrors(
                published.title,
                published.mirrors,
                file,
                &agent(CONNECT, TRANSFER).build().into(),
            )?,
        };
    }
    Ok(published::assemble(&files)?)
}

/// The unpacked file from the first location in `folder` with valid bytes. The file may be packed,
/// may have a dot in place of a dash, and may be in torchvision's layout, in a folder with the name
/// of the dataset, or in a folder of its own name.
fn from_folder(folder: &Path, published: &Published, file: &PublishedFile) -> Result<Vec<u8>> {
    let dotted = file.name.replacen("-idx", ".idx", 1);
    let title = published.title;
    let mut invalid = Vec::new();
    let subfolders = [""].iter().chain(published.folders).copied().chain([file.name]);
    for subfolder in subfolders {
        for name in [file.name, &dotted] {
            for end in ["", ".gz"] {
                let path = folder.join(subfolder).join(format!("{name}{end}"));
                match from_file(&path, file) {
                    Ok(Some(bytes)) => return Ok(bytes),
                    Ok(None) => {}
                    Err(cause) => invalid.push(format!("`{}`: {cause:#}", path.display())),
                }
            }
        }
    }
    let (shown, name) = (folder.display(), file.name);
    let packed = match file.digest {
        PublishedDigest::Sha256(_) => "with or without `.gz`",
        PublishedDigest::Md5OfGzip(_) => "with `.gz`",
    };
    let subfolders: Vec<String> =
        published.folders.iter().map(|subfolder| format!("`{subfolder}`")).collect();
    let subfolders = subfolders.join(" or ");
    if !invalid.is_empty() {
        let cause = format!("the files in `{shown}` are not {title}: {}", invalid.join("; "));
        // The usual cause: the folder has the files of another dataset.
        let hint = format!(
            "other datasets have files of the same names; put those of {title}, {packed}, into \
             {subfolders} in that folder"
        );
        return Err(Hinted::new(cause, hint).into());
    }
    let cause = format!(
        "`{name}` is missing from the data folder `{shown}`, which has {}",
        first_names(folder)?
    );
    let hint =
        format!("the folder may have `{name}` or `{dotted}`, {packed}, also in {subfolders}");
    Err(Hinted::new(cause, hint).into())
}

/// The unpacked file at `path`; `None` if there is none.
fn from_file(path: &Path, file: &PublishedFile) -> Result<Option<Vec<u8>>> {
    if fs::metadata_if_exists(path)?.is_none() {
        return Ok(None);
    }
    let bytes = fs::read(path)?;
    if path.extension().is_some_and(|end| end == "gz") {
        return Ok(Some(file.unpack(&bytes)?));
    }
    file.verify(&bytes)?;
    Ok(Some(bytes))
}

/// The first few names in a folder, as text.
fn first_names(folder: &Path) -> Result<String> {
    const MAX_LISTED: usize = 5;
    let names = fs::list(folder)?;
    let listed: Vec<String> =
        names.iter().take(MAX_LISTED).map(|name| format!("`{name}`")).collect();
    Ok(match names.len() {
        0 => "no files".to_owned(),
        n if n > MAX_LISTED => format!("{} and {} more", listed.join(", "), n - MAX_LISTED),
        _ => listed.join(", "),
    })
}

/// The timeouts for connecting to a mirror and for the transfer of 10 MB, and the number of
/// attempts per mirror.
const CONNECT: Duration = Duration::from_secs(5);
const TRANSFER: Duration = Duration::from_secs(60);
const ATTEMPTS: u32 = 2;

/// An HTTP client. It uses the proxy in the environment, if any, and follows at most ten redirects.
fn agent(connect: Duration, transfer: Duration) -> ConfigBuilder<AgentScope> {
    ureq::Agent::config_builder().timeout_connect(Some(connect)).timeout_global(Some(transfer))
}

/// The unpacked file from the first mirror that serves valid bytes.
fn from_mirrors(
    title: &str,
    mirrors: &[&str],
    file: &PublishedFile,
    agent: &ureq::Agent,
) -> Result<Vec<u8>> {
    let mut causes = Vec::new();
    for mirror in mirrors {
        let attempt = || -> Result<Vec<u8>> {
            let packed = download(agent, &format!("{mirror}{}.gz", file.name), file.bytes)?;
            Ok(file.unpack(&packed)?)
        };
        match (1..ATTEMPTS).fold(attempt(), |outcome, _| outcome.or_else(|_| attempt())) {
            Ok(bytes) => return Ok(bytes),
            Err(cause) => causes.push(format!("`{mirror}`: {cause:#}")),
        }
    }
    let cause =
        format!("no data folder is set, and no mirror served {title} ({})", causes.join("; "));
    let hint = format!(
        "set `REPRO_DATA` or pass `--data DIR` with a folder that contains the four {title} files"
    );
    Err(Unavailable { cause, hint }.into())
}

/// The body of `url`; an error, without reading further, if it has more than `limit` bytes.
fn download(agent: &ureq::Agent, url: &str, limit: usize) -> Result<Vec<u8>> {
    let response = agent.get(url).call()?;
    let mut body = Vec::new();
    response
        .into_body()
        .into_reader()
        .take(limit as u64 + 1)
        .read_to_end(&mut body)
        .context("the transfer was interrupted")?;
    if body.len() > limit {
        bail!("the response is longer than {limit} bytes");
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::data::published::{FASHION_MNIST, KMNIST, MNIST};
    use std::io::{self, BufRead as _, BufReader, Write as _};
    use std::net::{TcpListener, TcpStream};

    /// The file in these tests, the letter r repeated.
    const FILE: PublishedFile = PublishedFile {
        name: "right",
        bytes: 9000,
        digest: PublishedDigest::Sha256(
            "14e3b1244e268c81fdb3f562487e3f44a4786910c16f5620ac3b27cd16be386b",
        ),
    };
    const RIGHT: &[u8] = &[b'r'; FILE.bytes];

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    /// Responds in the way that the mirror's name indicates, until the client disconnects.
    fn serve(mut client: TcpStream) -> io::Result<()> {
        let mut request = String::new();
        BufReader::new(&client).read_line(&mut request)?;
        let mut respond = |head: &str, body: &[u8]| {
            client.write_all(&[head.as_bytes(), b"\r\n\r\n", body].concat())
        };
        match request.split('/').nth(1).unwrap_or_default() {
            "valid" => respond("HTTP/1.1 200 OK", &gzip(RIGHT)),
            "wrong" => respond("HTTP/1.1 200 OK", &gzip(&[b'w'; FILE.bytes])),
            "html" => respond("HTTP/1.1 200 OK", b"<html>log in here</html>"),
            "bomb" => respond("HTTP/1.1 200 OK", &gzip(&[0; 1 << 20])),
            "torn" => respond("HTTP/1.1 200 OK\r\nContent-Length: 5", b"r"),
            "gone" => respond("HTTP/1.1 404 Not Found", b""),
            "loop" => respond("HTTP/1.1 302 Found\r\nLocation: /loop/right.gz", b""),
            "noise" => respond("\0\0\0", b""),
            "endless" => respond("HTTP/1.1 200 OK", b"")
                .and_then(|()| repeat(&mut client, &[0; 4096], Duration::ZERO)),
            "heads" => {
                client.write_all(b"HTTP/1.1 200 OK\r\n")?;
                repeat(&mut client, b"X-More: to come\r\n", Duration::ZERO)
            }
            "trickle" => {
                respond("HTTP/1.1 200 OK", b"")?;
                repeat(&mut client, b"x", Duration::from_millis(300))
            }
            // Reads the request and never responds.
            _ => io::copy(&mut client, &mut io::sink()).map(drop),
        }
    }

    fn repeat(to: &mut TcpStream, bytes: &[u8], pause: Duration) -> io::Result<()> {
        loop {
            to.write_all(bytes)?;
            std::thread::sleep(pause);
        }
    }

    /// Starts a server with one mirror per name; returns its address.
    fn mirrors() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                std::thread::spawn(|| serve(client));
            }
        });
        format!("http://{address}")
    }

    #[test]
    fn after_a_mirror_that_fails_the_next_one_is_tried() {
        let server = mirrors();
        let fetch = |names: &[&str]| {
            // A short timeout in tests of the timeout, and a long one in all others.
            let is_slow = matches!(names[0], "trickle" | "stall");
            let timeout =
                if is_slow { Duration::from_millis(700) } else { Duration::from_secs(30) };
            let agent = agent(timeout, timeout).proxy(None).build().into();
            let mirrors: Vec<String> =
                names.iter().map(|name| format!("{server}/{name}/")).collect();
            let mirrors: Vec<&str> = mirrors.iter().map(String::as_str).collect();
            from_mirrors("MNIST", &mirrors, &FILE, &agent)
        };
        for (name, cause) in [
            ("wrong", "`right` has the SHA-256 `"),
            ("html", "`right` cannot be unzipped"),
            ("bomb", "`right` unzips to more than 9000 bytes"),
            ("torn", "the transfer was interrupted"),
            ("gone", "http status: 404"),
            ("loop", "too many redirects"),
            ("noise", "protocol: http parse fail"),
            ("endless", "the response is longer than 9000 bytes"),
            ("heads", "protocol: "),
            ("trickle", "the transfer was interrupted: timeout: global"),
            ("stall", "timeout: global"),
        ] {
            let error = fetch(&[name]).unwrap_err();
            assert!(error.is::<Unavailable>(), "{name}: {error:#}");
            assert!(
                error.to_string().contains(&format!("(`{server}/{name}/`: {cause}")),
                "{name}: {error:#}"
            );
            assert_eq!(fetch(&[name, "valid"]).unwrap(), RIGHT, "{name}");
        }
    }

    #[test]
    fn mnist_is_found_in_every_common_layout() {
        let file = PublishedFile { name: "right-idx3-ubyte", ..FILE };
        let (first, rest) = RIGHT.split_at(4000);
        for (name, bytes) in [
            ("right-idx3-ubyte", RIGHT.to_vec()),
            ("right.idx3-ubyte", RIGHT.to_vec()),
            ("right-idx3-ubyte.gz", gzip(RIGHT)),
            ("right.idx3-ubyte.gz", gzip(RIGHT)),
            ("right-idx3-ubyte.gz", [gzip(first), gzip(rest)].concat()),
            ("MNIST/raw/right-idx3-ubyte", RIGHT.to_vec()),
            ("MNIST/raw/right-idx3-ubyte.gz", gzip(RIGHT)),
            ("raw/right-idx3-ubyte", RIGHT.to_vec()),
            ("right-idx3-ubyte/right.idx3-ubyte", RIGHT.to_vec()),
            ("mnist/right-idx3-ubyte.gz", gzip(RIGHT)),
        ] {
            for broken in [None, Some("right-idx3-ubyte.gz"), Some("right.idx3-ubyte"), Some("raw")]
            {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, &bytes).unwrap();
                if let Some(broken) =
                    broken.map(|broken| folder.path().join(broken)).filter(|path| !path.exists())
                {
                    fs::write(&broken, "broken").unwrap();
                }
                assert_eq!(
                    from_folder(folder.path(), &MNIST, &file).unwrap(),
                    RIGHT,
                    "{name} beside {broken:?}"
                );
            }
        }
    }

    /// A dataset whose files have the MD5 of the gzipped letters of [`RIGHT`].
    fn checked_by_md5(dataset: &'static Published) -> (Published, Vec<u8>) {
        use md5::{Digest as _, Md5};
        let packed = gzip(RIGHT);
        let digits: String = Md5::digest(&packed).iter().map(|x| format!("{x:02x}")).collect();
        let digest = PublishedDigest::Md5OfGzip(digits.leak());
        let files = dataset.files.map(|file| PublishedFile { digest, bytes: RIGHT.len(), ..file });
        (Published { files, ..*dataset }, packed)
    }

    #[test]
    fn other_datasets_are_found_in_folders_of_their_own_beside_mnist() {
        for (dataset, subfolders) in [
            (&FASHION_MNIST, ["", "fashion-mnist", "FashionMNIST/raw"]),
            (&KMNIST, ["", "kmnist", "KMNIST/raw"]),
        ] {
            let (dataset, packed) = checked_by_md5(dataset);
            for subfolder in subfolders {
                let folder = tempfile::tempdir().unwrap();
                let here = folder.path().join(subfolder);
                fs::create_dir_all(&here).unwrap();
                for file in &dataset.files {
                    if !subfolder.is_empty() {
                        // MNIST's file of the same name.
                        fs::write(&folder.path().join(file.name), "other").unwrap();
                    }
                    // torchvision keeps both.
                    fs::write(&here.join(file.name), RIGHT).unwrap();
                    fs::write(&here.join(format!("{}.gz", file.name)), &packed).unwrap();
                    let found = from_folder(folder.path(), &dataset, file).unwrap();
                    assert_eq!(found, RIGHT, "{subfolder}");
                }
            }
        }
    }

    #[test]
    fn a_file_without_its_gzipped_form_cannot_be_checked_by_an_md5() {
        let (dataset, packed) = checked_by_md5(&KMNIST);
        let folder = tempfile::tempdir().unwrap();
        let file = &dataset.files[0];
        let error = || from_folder(folder.path(), &dataset, file).unwrap_err();
        let hint = error().downcast::<Hinted>().unwrap().hint;
        assert!(hint.ends_with("with `.gz`, also in `kmnist` or `KMNIST/raw`"), "{hint}");
        fs::write(&folder.path().join(file.name), RIGHT).unwrap();
        let cause =
            "it cannot be checked: the published MD5 is that of `train-images-idx3-ubyte.gz`";
        assert!(error().to_string().ends_with(cause), "{}", error());
        let path = folder.path().join(format!("{}.gz", file.name));
        fs::write(&path, [&packed[..], &[0]].concat()).unwrap();
        assert!(error().to_string().contains("has the MD5 `"), "{}", error());
        assert!(error().to_string().contains("are not KMNIST: "), "{}", error());
        let hint = error().downcast::<Hinted>().unwrap().hint;
        let put = "put those of KMNIST, with `.gz`, into `kmnist` or `KMNIST/raw` in that folder";
        assert!(hint.ends_with(put), "{hint}");
        fs::write(&path, &packed).unwrap();
        assert_eq!(from_folder(folder.path(), &dataset, file).unwrap(), RIGHT);
    }

    #[test]
    fn a_mirror_of_another_dataset_is_checked_by_the_md5() {
        let (dataset, packed) = checked_by_md5(&FASHION_MNIST);
        let file = PublishedFile { name: "right", ..dataset.files[0] };
        let server = mirrors();
        let agent: ureq::Agent =
            agent(Duration::from_secs(30), Duration::from_secs(30)).proxy(None).build().into();
        let fetch = |name: &str| {
            from_mirrors("Fashion-MNIST", &[&format!("{server}/{name}/")], &file, &agent)
        };
        assert_eq!(packed, gzip(RIGHT), "the server sends the same bytes");
        assert_eq!(fetch("valid").unwrap(), RIGHT);
        let error = fetch("wrong").unwrap_err();
        assert!(error.is::<Unavailable>());
        let text = error.to_string();
        assert!(text.starts_with("no data folder is set, and no mirror served Fashion-MNIST ("));
        assert!(text.contains("`right` has the MD5 `"), "{text}");
    }

    #[test]
    fn a_folder_without_mnist_is_an_error_that_lists_its_files() {
        let file = PublishedFile { name: "right-idx3-ubyte", ..FILE };
        let folder = tempfile::tempdir().unwrap();
        let error = || from_folder(folder.path(), &MNIST, &file).unwrap_err();
        let missing = format!(
            "`right-idx3-ubyte` is missing from the data folder `{}`, which has",
            folder.path().display()
        );
        assert_eq!(error().to_string(), format!("{missing} no files"));
        (0..7).for_each(|n| fs::write(&folder.path().join(format!("{n}.png")), "").unwrap());
        let names = "`0.png`, `1.png`, `2.png`, `3.png`, `4.png` and 2 more";
        assert_eq!(error().to_string(), format!("{missing} {names}"));
        assert!(error().downcast::<Hinted>().unwrap().hint.contains("`right.idx3-ubyte`"));
        for broken in ["right-idx3-ubyte.gz", "right.idx3-ubyte"] {
            fs::write(&folder.path().join(broken), "broken").unwrap();
            assert!(error().to_string().contains(broken), "{}", error());
        }
        assert!(!error().is::<Unavailable>(), "the fallback is not used");
    }

    fn params(json: serde_json::Value) -> Params {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_fallback_has_another_key_and_the_same_number_of_images() {
        let requested =
            params(serde_json::json!({"dataset": "mnist", "otherwise": "digits", "train": 100}));
        let fallback = FetchStage::fallback(&requested).unwrap();
        assert_eq!(fallback, params(serde_json::json!({"dataset": "digits", "train": 100})));
        assert_eq!(
            FetchStage::key_params(requested, &Invocation::default()),
            params(serde_json::json!({"dataset": "mnist", "train": 100}))
        );
        assert_eq!(FetchStage::fallback(&fallback), None);
    }

    #[test]
    fn a_number_of_images_that_the_dataset_does_not_have_is_an_error() {
        let case = |json, cause: &str| {
            assert_eq!(FetchStage::check(&params(json)).unwrap_err().cause, cause);
        };
        case(
            serde_json::json!({"dataset": "mnist", "train": 70000}),
            "70000 training and 10000 test images are more than the dataset has",
        );
        case(
            serde_json::json!({"dataset": "mnist", "train": 10, "validation": 10}),
            "holding out 10 of 10 training images leaves none",
        );
    }

    #[test]
    fn only_random_data_depend_on_the_seed() {
        let label = |json| FetchStage::label(&params(json));
        assert_eq!(label(serde_json::json!({"dataset": "mnist"})), None);
        assert!(label(serde_json::json!({"dataset": "mnist", "validation": 5000})).is_some());
        assert!(label(serde_json::json!({"dataset": "digits"})).is_some());
    }
}
