//! Remote caches `gs://` and `az://`, against a small imitation of the two services on loopback. It
//! shows which variables are read, which requests are made and what is said if they are refused. It
//! knows neither lists nor uploads in parts, and checks no signature; the services themselves are
//! not tested.

use crate::space::{Space, nothing};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

/// A stage with another result each time.
const RANDOM: &str = "\
stages:
  a:
    command: { run: 'head -c 16 /dev/urandom > out', outputs: [out] }
";

const AZURE_KEY: &str = "aHVudGVyMmh1bnRlcjI=";

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Open,
    /// Refuses all requests.
    Denied,
    /// Has no bucket.
    Empty,
}

struct State {
    files: BTreeMap<String, Vec<u8>>,
    /// The first line, decoded, and the headers of each request.
    requests: Vec<String>,
    mode: Mode,
}

/// The service, until the process ends.
struct Cloud {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Cloud {
    fn start() -> Cloud {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (files, requests) = (BTreeMap::new(), Vec::new());
        let state = Arc::new(Mutex::new(State { files, requests, mode: Mode::Open }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || respond(connection, &state));
            }
        });
        Cloud { port, state }
    }

    fn set(&self, mode: Mode) {
        self.state.lock().unwrap().mode = mode;
    }

    /// The requests since the last call.
    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn azure(&self, space: Space) -> Space {
        space
            .env("REPRO_REMOTE", "az://container/prefix")
            .env("NO_PROXY", "127.0.0.1")
            .env("AZURE_STORAGE_USE_EMULATOR", "true")
            .env("AZURITE_BLOB_STORAGE_URL", self.url())
            .env("AZURE_STORAGE_ACCOUNT_NAME", "lab")
            .env("AZURE_STORAGE_ACCOUNT_KEY", AZURE_KEY)
    }

    fn google(&self, space: Space) -> Space {
        let key = json!({
            "client_email": "lab@example.org", "private_key": "hunter2hunter2",
            "private_key_id": "1", "disable_oauth": true, "gcs_base_url": self.url(),
        });
        space
            .env("REPRO_REMOTE", "gs://bucket/prefix")
            .env("NO_PROXY", "127.0.0.1")
            .env("GOOGLE_SERVICE_ACCOUNT_KEY", key.to_string())
    }
}

/// Responds to one request.
fn respond(mut connection: TcpStream, state: &Mutex<State>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && connection.read(&mut byte).is_ok_and(|n| n > 0) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let header = |name: &str| {
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let size = header("content-length").map_or(0, |size| size.parse().unwrap());
    let mut body = vec![0; size];
    if connection.read_exact(&mut body).is_err() {
        return;
    }
    let mut words = head.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let creates =
        header("x-goog-if-generation-match") == Some("0") || header("if-none-match") == Some("*");
    let mut state = state.lock().unwrap();
    // Google's paths are encoded.
    state.requests.push(head.replace("%2F", "/").replace("%2E", ".").replace("%2D", "-"));
    let exists = state.files.contains_key(&path);
    let (status, body) = match method.as_str() {
        _ if state.mode == Mode::Denied => ("403 Forbidden", Vec::new()),
        _ if state.mode == Mode::Empty => ("404 Not Found", Vec::new()),
        "PUT" if creates && exists => ("412 Precondition Failed", Vec::new()),
        "PUT" => {
            state.files.insert(path, body);
            ("201 Created", Vec::new())
        }
        "GET" | "HEAD" if exists => ("200 OK", state.files[&path].clone()),
        "DELETE" if state.files.remove(&path).is_some() => ("204 No Content", Vec::new()),
        "GET" | "HEAD" | "DELETE" => ("404 Not Found", Vec::new()),
        _ => ("400 Bad Request", Vec::new()),
    };
    drop(state);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"1\"\r\nConnection: close\r\n\
         Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n",
        body.len()
    );
    let _ = connection.write_all(head.as_bytes());
    if method != "HEAD" {
        let _ = connection.write_all(&body);
    }
}

/// Pushes from one project, pulls into another, and refuses a third one's other result.
fn share(cloud: &Cloud, of: impl Fn(Space) -> Space, authorization: Option<&str>, root: &str) {
    let first = of(Space::tiny());
    assert_eq!(first.ran(&["--push"]).len(), 29);
    let requests = cloud.requests();
    assert!(requests.iter().any(|head| head.contains(root)), "{}", requests[0]);
    for head in &requests {
        let found = head.lines().find(|line| line.to_lowercase().starts_with("authorization: "));
        let found = found.map(|line| &line["authorization: ".len()..]);
        match authorization {
            Some(start) => assert!(found.is_some_and(|found| found.starts_with(start)), "{head}"),
            None => assert!(found.is_none_or(|found| found.trim() == "Bearer"), "{head}"),
        }
    }
    let second = of(Space::tiny());
    assert_eq!(second.pending(&[]), nothing());
    let is_entry = |head: &String| {
        head.starts_with("GET ") && (head.contains("/entries/") || head.contains("cache.json"))
    };
    assert!(cloud.requests().iter().all(is_entry), "`plan` asks for entries only");
    assert_eq!(second.ran(&["--require-remote"]), nothing());
    assert_eq!(second.digests(), first.digests());
    of(Space::with(RANDOM)).ok(&["run", "--push"]);
    let other = of(Space::with(RANDOM));
    other.ok(&["run", "--remote", ""]);
    other.exits(4, &["push"]);
}

/// Says what is wrong, names the variable, prints no secret, and runs without the remote cache.
fn refuse(cloud: &Cloud, of: impl Fn(Space) -> Space, url: &str, variable: &str) {
    for (mode, message, hint) in [
        (Mode::Denied, format!("the remote cache `{url}` denies access"), variable),
        (Mode::Empty, format!("the remote cache `{url}` does not exist"), "create the bucket"),
    ] {
        cloud.set(mode);
        let space = of(Space::with(RANDOM));
        let ran = space.ok(&["run", "--push", "--verbose"]);
        assert!(ran.stderr.contains(&message), "{}", ran.stderr);
        let pushed = space.exits(7, &["push"]);
        let events = of(Space::with(RANDOM)).ok(&["run", "--push", "--json"]);
        assert!(pushed.stderr.contains(&message), "{}", pushed.stderr);
        assert!(pushed.stderr.contains(hint), "{}", pushed.stderr);
        for text in [&ran.stderr, &pushed.stderr, &events.stdout, &events.stderr] {
            assert!(!text.contains("hunter2") && !text.contains(AZURE_KEY), "{text}");
        }
    }
}

#[test]
fn azure_shares_results_with_a_key_from_the_environment() {
    let cloud = Cloud::start();
    let of = |space: Space| cloud.azure(space);
    share(&cloud, of, Some("SharedKey lab:"), "/lab/container/prefix/v1/");
    refuse(&cloud, of, "az://container/prefix", "AZURE_STORAGE_ACCOUNT_KEY");
}

#[test]
fn google_shares_results_through_its_own_address() {
    let cloud = Cloud::start();
    let of = |space: Space| cloud.google(space);
    share(&cloud, of, None, "/bucket/prefix/v1/");
    refuse(&cloud, of, "gs://bucket/prefix", "GOOGLE_APPLICATION_CREDENTIALS");
}

#[test]
fn google_signs_with_the_key_in_the_file_of_the_documented_variable() {
    let Ok(generated) = Command::new("openssl").args(["genrsa", "2048"]).output() else {
        let _ = writeln!(std::io::stderr(), "skipped a test of Google's keys: no `openssl`");
        return;
    };
    let cloud = Cloud::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.json");
    let key = json!({
        "type": "service_account", "client_email": "lab@example.org", "private_key_id": "1",
        "private_key": String::from_utf8(generated.stdout).unwrap(),
    });
    std::fs::write(&file, key.to_string()).unwrap();
    let of = |space: Space| {
        space
            .env("REPRO_REMOTE", "gs://bucket/prefix")
            .env("NO_PROXY", "127.0.0.1")
            .env("GOOGLE_BASE_URL", cloud.url())
            .env("GOOGLE_APPLICATION_CREDENTIALS", file.display().to_string())
    };
    // The start of a signed token: `{"`.
    share(&cloud, of, Some("Bearer eyJ"), "/bucket/prefix/v1/");
}

#[test]
fn invalid_settings_are_reported_without_them_and_with_the_variable_to_set() {
    let (azure, google) = ("AZURE_STORAGE_ACCOUNT_", "GOOGLE_APPLICATION_CREDENTIALS");
    for (url, variables, message) in [
        (
            "az://container/prefix",
            &[][..],
            "are invalid, and the environment has no credentials for it: Account must be specified",
        ),
        (
            "az://container/prefix",
            &[
                ("AZURE_STORAGE_ACCOUNT_NAME", "me"),
                ("AZURE_STORAGE_ACCOUNT_KEY", "hunter2-hunter2"),
            ],
            "are invalid: ",
        ),
        (
            "gs://bucket/prefix",
            &[("GOOGLE_SERVICE_ACCOUNT_KEY", "\"hunter2hunter2\"")],
            "are invalid: ",
        ),
        (
            "gs://bucket/prefix",
            &[("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")],
            "are invalid: No such file",
        ),
    ] {
        let space = Space::with(RANDOM).env("REPRO_REMOTE", url);
        let set = |space: Space, (name, value): &(&str, &str)| space.env(name, *value);
        let space = variables.iter().fold(space, set);
        let ran = space.ok(&["run", "--push", "--verbose"]);
        let start = format!("warning: the settings of the remote cache `{url}` {message}");
        assert!(ran.stderr.contains(&start), "{}", ran.stderr);
        assert!(ran.stderr.contains("continuing without it"), "{}", ran.stderr);
        let pushed = space.exits(7, &["push"]);
        let variable = if url.starts_with("az") { azure } else { google };
        assert!(pushed.stderr.contains(variable), "{}", pushed.stderr);
        assert!(!(ran.stderr + &pushed.stderr).contains("hunter2"), "{}", pushed.stderr);
    }
}

#[test]
fn missing_credentials_for_s3_are_named_with_the_variable_to_set() {
    let space = Space::with(RANDOM)
        .env("REPRO_REMOTE", "s3://bucket/prefix")
        // Otherwise the address that has the credentials of a machine's role at Amazon.
        .env("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
        .env("NO_PROXY", "127.0.0.1")
        .wrapped_in(&["env", "-u", "AWS_ACCESS_KEY_ID", "-u", "AWS_WEB_IDENTITY_TOKEN_FILE"]);
    let pushed = space.exits(7, &["run", "--require-remote"]);
    let message = ", and the environment has no credentials for it";
    assert!(pushed.stderr.contains(message), "{}", pushed.stderr);
    assert!(pushed.stderr.contains("hint: set `AWS_ACCESS_KEY_ID`"), "{}", pushed.stderr);
}
