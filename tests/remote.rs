//! The remote cache: results that one project pushes and another one pulls, from a shared folder, a
//! web server and S3 servers, which may be slow, damaged, or down.
//!
//! The S3 servers are `moto_server` and `rclone`, beside the Python of `REPRO_PYTHON` or on the
//! PATH. Without them those tests do nothing, and say so on standard error; with
//! `REPRO_REQUIRE=s3`, as in .ci/run, they fail.

use crate::space::{Space, flip_byte, nothing};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A source, and a stage with another result each time.
const RANDOM: &str = "\
stages:
  a:
    command: { run: 'head -c 16 /dev/urandom > out', outputs: [out] }
";

fn folder() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    (folder, url)
}

/// A folder with the results of a space of [`crate::space::TINY`].
fn pushed() -> (TempDir, String, Space) {
    let (folder, url) = folder();
    let first = Space::run_tiny().env("REPRO_REMOTE", &url);
    first.ok(&["push"]);
    (folder, url, first)
}

/// All files below a folder of the remote.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

fn objects(folder: &Path) -> Vec<PathBuf> {
    files(&folder.join("v1/objects"))
}

#[test]
fn results_that_a_run_pushes_are_pulled_by_another_project() {
    let (_folder, url) = folder();
    let first = Space::tiny();
    let ran = first.ran(&["--push", "--remote", &url]);
    assert!(ran.len() > 20);
    let second = Space::tiny();
    assert_eq!(second.ran(&["--remote", &url]), nothing());
    assert_eq!(second.digests(), first.digests());
    assert_eq!(second.ran(&[]), nothing(), "the results are in the local cache");
    second.ok(&["verify"]);
    assert_eq!(
        fs::read(first.join("reports/default/report.md")).unwrap(),
        fs::read(second.join("reports/default/report.md")).unwrap()
    );
}

#[test]
fn a_plan_fetches_no_object() {
    let (_folder, url, _) = pushed();
    let second = Space::tiny();
    assert_eq!(second.pending(&["--remote", &url]), nothing());
    assert!(!second.join("cache/v2/objects").exists());
    let text = second.ok(&["plan", "--remote", &url]).stdout;
    assert!(text.contains("results are in the remote cache only"), "{text}");
}

#[test]
fn push_and_pull_copy_the_results_of_targets_once() {
    let (folder, url, first) = pushed();
    let text = first.ok(&["push"]).stdout;
    assert!(text.starts_with("0 results pushed"), "{text}");
    let second = Space::tiny().env("REPRO_REMOTE", &url);
    let text = second.ok(&["pull", "nets"]).stdout;
    // The data, and the eight nets.
    assert!(text.starts_with("9 results pulled"), "{text}");
    assert_eq!(second.ran(&["--remote", "", "nets"]), nothing());
    assert!(!second.ran(&["--remote", ""]).is_empty());
    let empty = Space::tiny().env("REPRO_REMOTE", &url);
    fs::remove_dir_all(folder.path().join("v1")).unwrap();
    let text = empty.ok(&["pull"]).stdout;
    assert!(text.contains("29 nodes neither here nor in the remote cache"), "{text}");
}

#[test]
fn a_damaged_object_is_refused_named_and_computed() {
    for damage in ["poisoned", "truncated", "missing"] {
        let (folder, url, first) = pushed();
        let largest =
            objects(folder.path()).into_iter().max_by_key(|path| fs::metadata(path).unwrap().len());
        let object = largest.unwrap();
        let bytes = fs::read(&object).unwrap();
        match damage {
            "poisoned" => flip_byte(&object),
            "truncated" => fs::write(&object, &bytes[..bytes.len() / 2]).unwrap(),
            _ => fs::remove_file(&object).unwrap(),
        }
        let digest = object.file_name().unwrap().to_str().unwrap().to_owned();
        let second = Space::tiny();
        let output = second.ok(&["run", "--json", "--remote", &url]);
        assert!(!output.ran().is_empty() && output.ran().len() < 9, "{:?}", output.ran());
        let notice = output.events().into_iter().find(|e| e["event"] == "remote-notice").unwrap();
        assert!(notice["message"].as_str().unwrap().contains(&digest), "{damage}: {notice}");
        assert_eq!(second.digests(), first.digests(), "{damage}");
        let output = first.exits(5, &["remote", "verify"]);
        assert!(output.stdout.contains(&digest), "{damage}: {}", output.stdout);
        first.exits(5, &["remote", "verify", "--delete"]);
        first.ok(&["remote", "verify"]);
        first.ok(&["push"]);
        assert_eq!(Space::tiny().ran(&["--remote", &url]), nothing(), "{damage}");
    }
}

#[test]
fn a_damaged_entry_counts_as_missing() {
    let (folder, url, first) = pushed();
    let entry = files(&folder.path().join("v1/entries")).remove(0);
    flip_byte(&entry);
    let second = Space::tiny().env("REPRO_REMOTE", &url);
    assert_eq!(second.ok(&["run", "--json", "--push"]).ran().len(), 1);
    first.ok(&["remote", "verify"]);
}

#[test]
fn without_the_remote_a_run_warns_and_continues_unless_it_is_required() {
    let space = Space::counting().env("REPRO_REMOTE", "file:///nowhere/at/all");
    let output = space.ok(&["run"]);
    let warning = "warning: the remote cache `file:///nowhere/at/all` does not exist; continuing \
                   without it";
    assert_eq!(output.stderr.matches(warning).count(), 1, "{}", output.stderr);
    for arguments in [&["run", "--force", "--require-remote"][..], &["pull"], &["remote", "verify"]]
    {
        let output = space.exits(7, arguments);
        assert!(output.stderr.contains("the remote cache is required"), "{}", output.stderr);
    }
    let none = Space::counting();
    for arguments in [&["run", "--push"][..], &["run", "--require-remote"], &["push"], &["pull"]] {
        assert!(none.exits(2, arguments).stderr.contains("there is no remote cache"));
    }
}

#[test]
fn another_result_under_the_same_key_is_reported_and_not_replaced() {
    let (folder, url) = folder();
    let (first, second) = (Space::with(RANDOM), Space::with(RANDOM));
    first.ok(&["run", "--push", "--remote", &url]);
    let before = files(folder.path());
    second.ok(&["run"]);
    let output = second.exits(4, &["push", "--remote", &url]);
    assert!(output.stderr.contains("has another result for"), "{}", output.stderr);
    let entry = |files: &[PathBuf]| {
        let entry = files.iter().find(|path| path.extension().is_some()).unwrap().clone();
        fs::read(entry).unwrap()
    };
    assert_eq!(entry(&before), entry(&files(&folder.path().join("v1/entries"))));
    let third = Space::with(RANDOM);
    third.ok(&["run", "--remote", &url]);
    assert_eq!(third.digests(), first.digests());
}

#[test]
fn the_address_in_the_pipeline_file_is_used_and_an_empty_one_disables_it() {
    let (_folder, url, first) = pushed();
    let second = Space::tiny();
    let pipeline = second.read("pipeline.yaml");
    second.write("pipeline.yaml", format!("remote: {url}\n{pipeline}"));
    assert_eq!(second.pending(&["--remote", ""]).len(), 29);
    assert_eq!(second.ran(&[]), nothing());
    assert_eq!(second.digests(), first.digests(), "the address is not part of any key");
}

#[test]
fn credentials_in_an_address_are_refused_and_not_printed() {
    let space = Space::counting();
    for url in ["https://me:hunter2@host/x", "az://container/x?sig=hunter2", "hunter2"] {
        let output = space.exits(2, &["run", "--remote", url]);
        assert!(!format!("{}{}", output.stdout, output.stderr).contains("hunter2"));
    }
    let pipeline = space.read("pipeline.yaml");
    space.write("pipeline.yaml", format!("remote: https://me:hunter2@host/x\n{pipeline}"));
    let output = space.exits(2, &["run"]);
    assert!(output.stderr.contains("pipeline.yaml:1:"), "{}", output.stderr);
    assert!(!output.stderr.contains("hunter2"));
}

#[test]
fn only_cached_results_pass_with_require_cached_and_they_may_be_remote() {
    let (_folder, url, first) = pushed();
    first.ok(&["lock"]);
    let second = Space::tiny();
    second.write("pipeline.lock", first.read("pipeline.lock"));
    let output = second.exits(3, &["run", "--locked", "--require-cached"]);
    assert!(output.stderr.contains("is not cached"), "{}", output.stderr);
    second.ok(&["run", "--locked", "--require-cached", "--remote", &url]);
}

#[test]
fn garbage_collection_keeps_what_the_pipeline_needs() {
    let (folder, url) = folder();
    let space = Space::counting().env("REPRO_REMOTE", &url);
    space.ok(&["run", "--push"]);
    let before = files(folder.path()).len();
    space.edit("factor: 2", "factor: 3");
    space.exits(3, &["remote", "gc"]);
    space.ok(&["run", "--push"]);
    let text = space.ok(&["remote", "gc"]).stdout;
    assert!(text.starts_with("5 results kept, 0 can be removed"), "young results stay: {text}");
    let arguments = ["remote", "gc", "--older-than", "0s"];
    let text = space.ok(&arguments).stdout;
    assert!(text.starts_with("3 results kept, 2 can be removed"), "{text}");
    assert!(files(folder.path()).len() > before, "nothing is removed without `--delete`");
    space.ok(&[&arguments[..], &["--delete"]].concat());
    space.ok(&["remote", "verify"]);
    let second = Space::counting();
    second.edit("factor: 2", "factor: 3");
    assert_eq!(second.ran(&["--remote", &url]), nothing());
}

/// What a [`Web`] server or a [`Proxy`] does to objects.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Toxic {
    Nothing,
    /// Denies access.
    Deny,
    /// Sends the first half and closes the connection.
    Cut,
    /// Sends nothing more.
    Stall,
    /// Flips a bit of the body.
    Corrupt,
}

/// A web server of the files in a folder, on loopback, until it is dropped.
struct Web {
    port: u16,
    toxic: Arc<Mutex<Toxic>>,
}

impl Web {
    fn of(folder: &Path) -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let toxic = Arc::new(Mutex::new(Toxic::Nothing));
        let (folder, shared) = (folder.to_owned(), Arc::clone(&toxic));
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (folder, toxic) = (folder.clone(), *shared.lock().unwrap());
                std::thread::spawn(move || serve(connection, &folder, toxic));
            }
        });
        Web { port, toxic }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/cache", self.port)
    }

    fn set(&self, toxic: Toxic) {
        *self.toxic.lock().unwrap() = toxic;
    }
}

/// Responds to one request.
fn serve(mut connection: TcpStream, folder: &Path, toxic: Toxic) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && connection.read(&mut byte).is_ok_and(|n| n > 0) {
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches("/cache/");
    let is_object = path.contains("/objects/");
    let (status, mut body) = match fs::read(folder.join(path)) {
        _ if toxic == Toxic::Deny => ("403 Forbidden", Vec::new()),
        Ok(body) => ("200 OK", body),
        Err(_) => ("404 Not Found", Vec::new()),
    };
    let size = body.len();
    let mut sent = size;
    if is_object && size > 0 {
        match toxic {
            Toxic::Corrupt => body[size / 2] ^= 1,
            Toxic::Cut | Toxic::Stall => sent = size / 2,
            Toxic::Nothing | Toxic::Deny => {}
        }
    }
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n");
    let _ = connection.write_all(head.as_bytes());
    let _ = connection.write_all(&body[..sent]);
    if is_object && toxic == Toxic::Stall {
        std::thread::sleep(Duration::from_secs(20));
    }
}

/// A space that reads from `url`.
fn reader(url: &str) -> Space {
    Space::tiny()
        .env("REPRO_REMOTE", url)
        .env("NO_PROXY", "127.0.0.1")
        .env("REPRO_REMOTE_TIMEOUT", "2")
}

#[test]
fn a_web_server_is_read_and_nothing_is_pushed_to_it() {
    let (folder, _url, first) = pushed();
    let web = Web::of(folder.path());
    let space = reader(&web.url());
    assert_eq!(space.ran(&[]), nothing());
    assert_eq!(space.digests(), first.digests());
    for arguments in [&["run", "--push"][..], &["push"], &["remote", "gc", "--delete"]] {
        let output = space.exits(2, arguments);
        assert!(output.stderr.contains("cannot be copied to a web server"), "{}", output.stderr);
    }
}

#[test]
fn a_remote_that_denies_stalls_cuts_or_corrupts_costs_little_time_and_no_result() {
    let (folder, _url, first) = pushed();
    let web = Web::of(folder.path());
    for (toxic, message) in [
        (Toxic::Deny, "denies access"),
        (Toxic::Stall, "did not respond within 2 s"),
        (Toxic::Cut, "cut"),
        (Toxic::Corrupt, "refused"),
    ] {
        web.set(toxic);
        let space = reader(&web.url());
        let began = Instant::now();
        let output = space.ok(&["run"]);
        assert!(output.stderr.contains(message), "{toxic:?}: {}", output.stderr);
        let is_down = toxic != Toxic::Corrupt;
        if is_down {
            assert_eq!(output.stderr.matches("warning:").count(), 1, "{}", output.stderr);
        }
        assert!(began.elapsed() < Duration::from_secs(90), "{toxic:?}: {:?}", began.elapsed());
        assert_eq!(space.env("REPRO_REMOTE", "").digests(), first.digests(), "{toxic:?}");
        if is_down {
            let output = reader(&web.url()).exits(7, &["run", "--require-remote"]);
            assert!(output.stderr.contains(message), "{toxic:?}: {}", output.stderr);
        }
    }
}

/// A server that a test has started, killed when it is dropped.
struct Server {
    child: Child,
    port: u16,
    /// Where it writes its files, removed after it has ended.
    _folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The path of a program beside the Python of `REPRO_PYTHON`, or on the PATH.
fn program(name: &str) -> Result<PathBuf, String> {
    let python = std::env::var_os("REPRO_PYTHON").map(PathBuf::from);
    let beside = python.and_then(|python| Some(python.parent()?.join(name)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join(name));
    let found = beside.into_iter().chain(on_path).find(|path| path.is_file());
    found.ok_or_else(|| format!("there is no `{name}` beside REPRO_PYTHON or on the PATH"))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// `moto_server` that answers one request at a time: moto itself checks a condition and then
/// writes, so that two writers can both find that there is no object.
const MOTO: &str = "
import sys, threading
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

moto, alone = DomainDispatcherApplication(create_backend_app), threading.Lock()

def answer(environ, start_response):
    with alone:
        return moto(environ, start_response)

run_simple('127.0.0.1', int(sys.argv[1]), answer, threaded=True)
";

impl Server {
    fn start(name: &str, arguments: impl Fn(u16, &Path) -> Vec<String>) -> Result<Server, String> {
        let program = program(name)?;
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bucket")).unwrap();
        let port = free_port();
        let mut child = Command::new(program)
            .args(arguments(port, folder.path()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start `{name}`: {error}"))?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let has_ended = child.try_wait().unwrap().is_some();
            if has_ended || Instant::now() > deadline {
                let _ = child.kill();
                return Err(format!("`{name}` did not start"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(Server { child, port, _folder: folder })
    }

    /// A server in memory that honours conditions.
    fn moto() -> Result<Server, String> {
        program("moto_server")?;
        let server = Server::start("python", |port, _| {
            vec!["-c".to_owned(), MOTO.to_owned(), port.to_string()]
        })?;
        let mut connection = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        let request = "PUT /bucket HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\
                       Authorization: AWS4-HMAC-SHA256 Credential=reprokey/20260101/us-east-1/s3/\
                       aws4_request, SignedHeaders=host, Signature=0\r\nConnection: close\r\n\r\n";
        connection.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        connection.read_to_string(&mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        Ok(server)
    }

    /// A server of a folder that checks signatures and ignores conditions.
    fn rclone() -> Result<Server, String> {
        Server::start("rclone", |port, folder| {
            let address = format!("127.0.0.1:{port}");
            let fixed = ["--config", "/dev/null", "serve", "s3", "--addr", &address];
            let keys = ["--auth-key", "reprokey,reprosecret1", "--vfs-cache-mode", "writes"];
            let words = fixed.iter().chain(&keys).map(|word| (*word).to_owned());
            words.chain([folder.display().to_string()]).collect()
        })
    }

    /// The variables for a project that uses this server, through `port`.
    fn variables(&self, space: Space, port: u16) -> Space {
        space
            .env("REPRO_REMOTE", "s3://bucket/some/prefix")
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"))
            .env("AWS_ACCESS_KEY_ID", "reprokey")
            .env("AWS_SECRET_ACCESS_KEY", "reprosecret1")
            .env("AWS_REGION", "us-east-1")
            .env("NO_PROXY", "127.0.0.1")
            .env("REPRO_REMOTE_TIMEOUT", "5")
    }

    fn space(&self) -> Space {
        self.variables(Space::tiny(), self.port)
    }
}

/// Runs a test with a server, if its program is installed.
fn with(server: Result<Server, String>, test: impl FnOnce(Server)) {
    match server {
        Ok(server) => test(server),
        Err(reason) => {
            let required = std::env::var("REPRO_REQUIRE").unwrap_or_default();
            assert!(!required.split(',').any(|word| word == "s3"), "{reason}");
            // The macros' output is shown only for failed tests.
            let _ = writeln!(std::io::stderr(), "skipped a test with an S3 server: {reason}");
        }
    }
}

/// Pushes from one project and pulls into another.
fn share(server: &Server) {
    let first = server.space();
    let ran = first.ran(&["--push"]);
    let second = server.space();
    assert_eq!(second.pending(&[]), nothing());
    assert!(!second.join("cache/v2/objects").exists());
    assert_eq!(second.ran(&["--require-remote"]), nothing());
    assert_eq!(second.digests(), first.digests());
    let text = second.ok(&["push"]).stdout;
    assert!(text.starts_with("0 results pushed (0 B), 29 unchanged"), "{text}");
    assert_eq!(ran.len(), 29);
    second.ok(&["remote", "verify"]);
}

/// Two projects push different results for one key at the same time: exactly one is kept.
fn race(server: &Server) -> Vec<Option<i32>> {
    let spaces = [(); 4].map(|()| server.variables(Space::with(RANDOM), server.port));
    spaces.iter().for_each(|space| _ = space.ok(&["run", "--remote", ""]));
    let codes: Vec<Option<i32>> = std::thread::scope(|scope| {
        let push = |space: &Space| space.run(&["push"]).code;
        let running: Vec<_> = spaces.iter().map(|space| scope.spawn(move || push(space))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let reader = server.variables(Space::with(RANDOM), server.port);
    assert_eq!(reader.ran(&[]), nothing());
    let kept = reader.digests();
    assert!(spaces.iter().any(|space| space.digests() == kept));
    codes
}

#[test]
fn an_s3_server_shares_results_and_keeps_the_first_of_two() {
    with(Server::moto(), |server| {
        share(&server);
        let codes = race(&server);
        assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 1, "{codes:?}");
        assert_eq!(codes.iter().filter(|code| **code == Some(4)).count(), 3, "{codes:?}");
    });
}

#[test]
fn an_s3_server_that_ignores_conditions_shares_results_and_reports_another() {
    with(Server::rclone(), |server| {
        share(&server);
        let first = server.variables(Space::with(RANDOM), server.port);
        first.ok(&["run", "--push"]);
        let second = server.variables(Space::with(RANDOM), server.port);
        second.ok(&["run", "--remote", ""]);
        second.exits(4, &["push"]);
        let third = server.variables(Space::with(RANDOM), server.port);
        assert_eq!(third.ran(&[]), nothing());
        assert_eq!(third.digests(), first.digests());
    });
}

#[test]
fn wrong_credentials_are_reported_and_not_printed() {
    with(Server::rclone(), |server| {
        let space = server.space().env("AWS_SECRET_ACCESS_KEY", "hunter2hunter2");
        let output = space.ok(&["run", "--push"]);
        assert!(output.stderr.contains("denies access"), "{}", output.stderr);
        assert!(!output.stderr.contains("hunter2"), "{}", output.stderr);
        let output = space.exits(7, &["push"]);
        assert!(output.stderr.contains("AWS_SECRET_ACCESS_KEY"), "{}", output.stderr);
        assert!(!output.stderr.contains("hunter2"), "{}", output.stderr);
    });
}

/// A proxy for TCP that damages the responses to requests for objects.
struct Proxy {
    port: u16,
    toxic: Arc<Mutex<Toxic>>,
}

impl Proxy {
    fn to(server: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let toxic = Arc::new(Mutex::new(Toxic::Nothing));
        let shared = Arc::clone(&toxic);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let toxic = *shared.lock().unwrap();
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                relay(&client, &server, toxic);
            }
        });
        Proxy { port, toxic }
    }
}

/// Copies bytes both ways in two threads.
fn relay(client: &TcpStream, server: &TcpStream, toxic: Toxic) {
    let is_object = Arc::new(Mutex::new(false));
    let [mut from, mut to] = [client, server].map(|stream| stream.try_clone().unwrap());
    let request = Arc::clone(&is_object);
    std::thread::spawn(move || {
        let mut chunk = [0; 1 << 14];
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            let text = String::from_utf8_lossy(&chunk[..count]);
            let line = text.lines().next().unwrap_or_default();
            if line.ends_with("HTTP/1.1") {
                *request.lock().unwrap() = line.starts_with("GET ") && line.contains("/objects/");
            }
            if to.write_all(&chunk[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
    let [mut from, mut to] = [server, client].map(|stream| stream.try_clone().unwrap());
    std::thread::spawn(move || {
        let mut chunk = [0; 1 << 14];
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            let mut sent = count;
            if *is_object.lock().unwrap() {
                let head = chunk[..count].windows(4).position(|end| end == b"\r\n\r\n");
                let body = head.map_or(0, |head| head + 4);
                match toxic {
                    Toxic::Corrupt if body < count => chunk[(body + count) / 2] ^= 1,
                    Toxic::Cut => sent = count / 2,
                    Toxic::Stall => std::thread::sleep(Duration::from_secs(20)),
                    _ => {}
                }
            }
            if to.write_all(&chunk[..sent]).is_err() || sent < count {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}

#[test]
fn a_proxy_that_cuts_stalls_and_corrupts_costs_no_result() {
    with(Server::moto(), |server| {
        let first = server.space();
        first.ok(&["run", "--push"]);
        let proxy = Proxy::to(server.port);
        let mut ran = BTreeSet::new();
        for toxic in [Toxic::Nothing, Toxic::Cut, Toxic::Stall, Toxic::Corrupt] {
            *proxy.toxic.lock().unwrap() = toxic;
            let space = server.variables(Space::tiny(), proxy.port);
            let output = space.ok(&["run", "--json"]);
            if toxic == Toxic::Nothing {
                assert_eq!(output.ran(), nothing());
            } else {
                ran.extend(output.ran());
                let has_notice = output.events().iter().any(|e| e["event"] == "remote-notice");
                assert!(has_notice, "{toxic:?}");
            }
            assert_eq!(space.env("REPRO_REMOTE", "").digests(), first.digests(), "{toxic:?}");
        }
        assert_eq!(ran.len(), 29);
    });
}
