//! `fetch`: brings a dataset in, checked, split and cut to size.
//!
//! The one stage that looks outside its workspace: at the folder that `REPRO_DATA` names, or, if it names none, at MNIST's
//! mirrors. Neither can change the answer, since every byte is checked against published digests. Whoever names a folder
//! wants what is in it: if that is not MNIST, the stage fails, and nothing else is used.

use super::artifact::{DATA_CARD, DataCard, IMAGES, write_examples, write_json};
use crate::engine::stage::{Context, Invocation, Slot, Stage, Unavailable};
use crate::fs;
use crate::study::bounded::ImageCount;
use crate::study::data::digits::digits;
use crate::study::data::mnist::{self, FILES, MIRRORS};
use crate::study::data::{Dataset, Examples, Split};
use anyhow::{Context as _, Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::config::ConfigBuilder;
use ureq::typestate::AgentScope;

pub(super) struct Fetch;

/// The environment variable that names the data folder.
pub const DATA_VARIABLE: &str = "REPRO_DATA";

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    dataset: Dataset,
    /// What to use if the dataset cannot be had.
    #[serde(default)]
    otherwise: Option<Dataset>,
    /// Use this many training images: the first ones; all by default.
    #[serde(default)]
    train: Option<ImageCount>,
    /// Use this many test images.
    #[serde(default)]
    test: Option<ImageCount>,
    /// Hold out this many of the training images, drawn by seed.
    #[serde(default)]
    validation: u32,
}

/// How many images both datasets have, and no more can be asked for.
const TRAIN: u32 = 60_000;
const TEST: u32 = 10_000;

impl Stage for Fetch {
    const NAME: &'static str = "fetch";
    const VERSION: u32 = 1;
    const SLOTS: &'static [Slot] = &[];
    const OUTPUTS: &'static [&'static str] =
        &[DATA_CARD, IMAGES[0], IMAGES[1], IMAGES[2], IMAGES[3], IMAGES[4], IMAGES[5]];
    type Params = Params;

    fn check(params: &Params) -> Result<(), String> {
        let train = params.train.map_or(TRAIN, ImageCount::get);
        let test = params.test.map_or(TEST, ImageCount::get);
        if train > TRAIN || test > TEST {
            return Err(format!(
                "there are {TRAIN} training and {TEST} test images, not {train} and {test}; ask for fewer"
            ));
        }
        if params.validation >= train {
            return Err(format!(
                "holding out {} of {train} training images leaves none; hold out fewer",
                params.validation
            ));
        }
        Ok(())
    }

    /// MNIST whole is the same whatever the seed.
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
        let (mut training, mut testing) = match params.dataset {
            Dataset::Mnist => mnist()?,
            Dataset::Digits => digits(seed, train as usize, test as usize),
        };
        training.truncate(train as usize);
        testing.truncate(test as usize);
        let (training, held_out) = training.split_off(params.validation as usize, seed);
        let parts: [(Split, &Examples); 3] =
            [(Split::Train, &training), (Split::Validation, &held_out), (Split::Test, &testing)];
        parts.into_iter().try_for_each(|(split, examples)| write_examples(cx, split, examples))?;
        let card = DataCard {
            dataset: params.dataset.name().to_owned(),
            train: training.len(),
            validation: held_out.len(),
            test: testing.len(),
        };
        write_json(&cx.output(DATA_CARD), &card)
    }
}

fn mnist() -> Result<(Examples, Examples)> {
    let folder =
        std::env::var_os(DATA_VARIABLE).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let mut files: [Vec<u8>; 4] = Default::default();
    for (file, bytes) in FILES.iter().zip(&mut files) {
        *bytes = match &folder {
            Some(folder) => from_folder(folder, file)?,
            None => from_mirrors(&MIRRORS, file, &patience(CONNECT, DELIVER).build().into())?,
        };
    }
    Ok(mnist::assemble(&files)?)
}

/// Where torchvision puts the files below a folder that it is given.
const TORCHVISION: [&str; 2] = ["MNIST/raw", "raw"];

/// The file, unpacked, from the first place in `folder` that has it sound: packed or not, with a dot for a dash, as
/// torchvision lays it out, or in a folder of its own name.
fn from_folder(folder: &Path, file: &mnist::MnistFile) -> Result<Vec<u8>> {
    let dotted = file.name.replacen("-idx", ".idx", 1);
    let mut refused = Vec::new();
    for place in [""].into_iter().chain(TORCHVISION).chain([file.name]) {
        for name in [file.name, &dotted] {
            for end in ["", ".gz"] {
                let path = folder.join(place).join(format!("{name}{end}"));
                match from_file(&path, file) {
                    Ok(Some(bytes)) => return Ok(bytes),
                    Ok(None) => {}
                    Err(cause) => refused.push(format!("`{}`: {cause:#}", path.display())),
                }
            }
        }
    }
    let (shown, name) = (folder.display(), file.name);
    if !refused.is_empty() {
        bail!("the files in `{shown}` are not MNIST: {}", refused.join("; "));
    }
    let found = some_of(folder)?;
    bail!(
        "the data folder `{shown}` has no `{name}`, also not as `{dotted}`, with `.gz` at the end, or in `{}`; it has {found}",
        TORCHVISION[0]
    )
}

/// The file at `path`, unpacked; `None` if there is none.
fn from_file(path: &Path, file: &mnist::MnistFile) -> Result<Option<Vec<u8>>> {
    if fs::metadata_if_exists(path)?.is_none() {
        return Ok(None);
    }
    let mut bytes = fs::read(path)?;
    if path.extension().is_some_and(|end| end == "gz") {
        bytes = mnist::gunzip(file.name, &bytes, file.bytes)?;
    }
    mnist::verify(file, &bytes)?;
    Ok(Some(bytes))
}

/// What is in a folder, in words: a few names.
fn some_of(folder: &Path) -> Result<String> {
    const FEW: usize = 5;
    let names = fs::list(folder)?;
    let shown: Vec<String> = names.iter().take(FEW).map(|name| format!("`{name}`")).collect();
    Ok(match names.len() {
        0 => "nothing in it".to_owned(),
        n if n > FEW => format!("{} and {} more", shown.join(", "), n - FEW),
        _ => shown.join(", "),
    })
}

/// How long a mirror may take to answer, and to deliver 10 MB; how often each is asked.
const CONNECT: Duration = Duration::from_secs(5);
const DELIVER: Duration = Duration::from_secs(60);
const ATTEMPTS: u32 = 2;

/// Who asks: by the caller's proxy, if there is one, and through ten redirections at most.
fn patience(connect: Duration, deliver: Duration) -> ConfigBuilder<AgentScope> {
    ureq::Agent::config_builder().timeout_connect(Some(connect)).timeout_global(Some(deliver))
}

/// The file, unpacked, from the first mirror that serves it whole.
fn from_mirrors(mirrors: &[&str], file: &mnist::MnistFile, agent: &ureq::Agent) -> Result<Vec<u8>> {
    let mut causes = Vec::new();
    for mirror in mirrors {
        let attempt = || -> Result<Vec<u8>> {
            let packed = download(agent, &format!("{mirror}{}.gz", file.name), file.bytes)?;
            let bytes = mnist::gunzip(file.name, &packed, file.bytes)?;
            mnist::verify(file, &bytes)?;
            Ok(bytes)
        };
        match (1..ATTEMPTS).fold(attempt(), |outcome, _| outcome.or_else(|_| attempt())) {
            Ok(bytes) => return Ok(bytes),
            Err(cause) => causes.push(format!("`{mirror}`: {cause:#}")),
        }
    }
    let cause = format!("no data folder is given, and no mirror served it ({})", causes.join("; "));
    let hint =
        "set `REPRO_DATA`, or pass `--data DIR`, with a folder that holds the four MNIST files"
            .to_owned();
    Err(Unavailable { cause, hint }.into())
}

/// The body of `url`, of at most `limit` bytes: no more are read, whatever is sent.
fn download(agent: &ureq::Agent, url: &str, limit: usize) -> Result<Vec<u8>> {
    let response = agent.get(url).call()?;
    let mut body = Vec::new();
    response
        .into_body()
        .into_reader()
        .take(limit as u64 + 1)
        .read_to_end(&mut body)
        .context("it broke off")?;
    if body.len() > limit {
        bail!("it serves more than {limit} bytes");
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, BufRead as _, BufReader, Write as _};
    use std::net::{TcpListener, TcpStream};

    /// What a mirror is asked for in these tests: so many times the letter r.
    const FILE: mnist::MnistFile = mnist::MnistFile {
        name: "right",
        bytes: 9000,
        sha256: "14e3b1244e268c81fdb3f562487e3f44a4786910c16f5620ac3b27cd16be386b",
    };
    const RIGHT: &[u8] = &[b'r'; FILE.bytes];

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    }

    /// Answers as the mirror's name says, until the other side has had enough.
    fn serve(mut to: TcpStream) -> io::Result<()> {
        let mut asked = String::new();
        BufReader::new(&to).read_line(&mut asked)?;
        let mut answer =
            |head: &str, body: &[u8]| to.write_all(&[head.as_bytes(), b"\r\n\r\n", body].concat());
        match asked.split('/').nth(1).unwrap_or_default() {
            "sound" => answer("HTTP/1.1 200 OK", &gzip(RIGHT)),
            "wrong" => answer("HTTP/1.1 200 OK", &gzip(&[b'w'; FILE.bytes])),
            "html" => answer("HTTP/1.1 200 OK", b"<html>log in here</html>"),
            "bomb" => answer("HTTP/1.1 200 OK", &gzip(&[0; 1 << 20])),
            "torn" => answer("HTTP/1.1 200 OK\r\nContent-Length: 5", b"r"),
            "gone" => answer("HTTP/1.1 404 Not Found", b""),
            "loop" => answer("HTTP/1.1 302 Found\r\nLocation: /loop/right.gz", b""),
            "noise" => answer("\0\0\0", b""),
            "endless" => answer("HTTP/1.1 200 OK", b"")
                .and_then(|()| repeat(&mut to, &[0; 4096], Duration::ZERO)),
            "heads" => {
                to.write_all(b"HTTP/1.1 200 OK\r\n")?;
                repeat(&mut to, b"X-More: to come\r\n", Duration::ZERO)
            }
            "trickle" => {
                answer("HTTP/1.1 200 OK", b"")?;
                repeat(&mut to, b"x", Duration::from_millis(300))
            }
            // It takes the question, and that is all.
            _ => io::copy(&mut to, &mut io::sink()).map(drop),
        }
    }

    fn repeat(to: &mut TcpStream, bytes: &[u8], pause: Duration) -> io::Result<()> {
        loop {
            to.write_all(bytes)?;
            std::thread::sleep(pause);
        }
    }

    /// A server that is a mirror under each of its names; gives its address.
    fn mirrors() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for asking in listener.incoming().flatten() {
                std::thread::spawn(|| serve(asking));
            }
        });
        format!("http://{address}")
    }

    #[test]
    fn a_mirror_that_does_not_serve_the_file_is_given_up_and_the_next_one_asked() {
        let server = mirrors();
        let ask = |names: &[&str]| {
            // Short enough to be awaited, or long enough never to end before the answer.
            let is_slow = matches!(names[0], "trickle" | "stall");
            let deliver =
                if is_slow { Duration::from_millis(700) } else { Duration::from_secs(30) };
            let agent = patience(deliver, deliver).proxy(None).build().into();
            let mirrors: Vec<String> =
                names.iter().map(|name| format!("{server}/{name}/")).collect();
            from_mirrors(&mirrors.iter().map(String::as_str).collect::<Vec<_>>(), &FILE, &agent)
        };
        for (name, cause) in [
            ("wrong", "`right` has the SHA-256 `"),
            ("html", "`right` cannot be unzipped"),
            ("bomb", "`right` unzips to more than 9000 bytes"),
            ("torn", "it broke off"),
            ("gone", "http status: 404"),
            ("loop", "too many redirects"),
            ("noise", "protocol: http parse fail"),
            ("endless", "it serves more than 9000 bytes"),
            ("heads", "protocol: "),
            ("trickle", "it broke off: timeout: global"),
            ("stall", "timeout: global"),
        ] {
            let error = ask(&[name]).unwrap_err();
            assert!(error.is::<Unavailable>(), "{name}: {error:#}");
            assert!(
                error.to_string().contains(&format!("(`{server}/{name}/`: {cause}")),
                "{name}: {error:#}"
            );
            assert_eq!(ask(&[name, "sound"]).unwrap(), RIGHT, "{name}");
        }
    }

    #[test]
    fn mnist_is_found_as_people_have_it() {
        let file = mnist::MnistFile { name: "right-idx3-ubyte", ..FILE };
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
                    from_folder(folder.path(), &file).unwrap(),
                    RIGHT,
                    "{name} beside {broken:?}"
                );
            }
        }
    }

    #[test]
    fn a_folder_without_mnist_is_refused_with_what_was_looked_for_and_what_was_found() {
        let file = mnist::MnistFile { name: "right-idx3-ubyte", ..FILE };
        let folder = tempfile::tempdir().unwrap();
        let refusal = || from_folder(folder.path(), &file).unwrap_err();
        let shown = folder.path().display().to_string();
        let looked_for = "`right-idx3-ubyte`, also not as `right.idx3-ubyte`, with `.gz` at the end, or in `MNIST/raw`; it has";
        assert_eq!(
            refusal().to_string(),
            format!("the data folder `{shown}` has no {looked_for} nothing in it")
        );
        (0..7).for_each(|n| fs::write(&folder.path().join(format!("{n}.png")), "").unwrap());
        let found = "`0.png`, `1.png`, `2.png`, `3.png`, `4.png` and 2 more";
        assert_eq!(
            refusal().to_string(),
            format!("the data folder `{shown}` has no {looked_for} {found}")
        );
        for broken in ["right-idx3-ubyte.gz", "right.idx3-ubyte"] {
            fs::write(&folder.path().join(broken), "broken").unwrap();
            assert!(refusal().to_string().contains(broken), "{}", refusal());
        }
        assert!(!refusal().is::<Unavailable>(), "nothing else is used instead");
    }

    fn params(json: serde_json::Value) -> Params {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_fallback_asks_another_question_with_the_same_sizes() {
        let asked =
            params(serde_json::json!({"dataset": "mnist", "otherwise": "digits", "train": 100}));
        let fallback = Fetch::fallback(&asked).unwrap();
        assert_eq!(fallback, params(serde_json::json!({"dataset": "digits", "train": 100})));
        assert_eq!(
            Fetch::key_params(asked, &Invocation::default()),
            params(serde_json::json!({"dataset": "mnist", "train": 100}))
        );
        assert_eq!(Fetch::fallback(&fallback), None);
    }

    #[test]
    fn more_images_than_there_are_and_none_left_are_refused() {
        let case =
            |json, message: &str| assert_eq!(Fetch::check(&params(json)), Err(message.to_owned()));
        case(
            serde_json::json!({"dataset": "mnist", "train": 70000}),
            "there are 60000 training and 10000 test images, not 70000 and 10000; ask for fewer",
        );
        case(
            serde_json::json!({"dataset": "mnist", "train": 10, "validation": 10}),
            "holding out 10 of 10 training images leaves none; hold out fewer",
        );
    }

    #[test]
    fn only_what_draws_hangs_on_the_seed() {
        let label = |json| Fetch::label(&params(json));
        assert_eq!(label(serde_json::json!({"dataset": "mnist"})), None);
        assert!(label(serde_json::json!({"dataset": "mnist", "validation": 5000})).is_some());
        assert!(label(serde_json::json!({"dataset": "digits"})).is_some());
    }
}
