//! The address of a remote cache: `s3://bucket/prefix`, `file:///folder`, and so on.
//!
//! An address contains no credentials: object_store reads them from the environment. Nothing here
//! prints them.

use crate::engine::stage::Hinted;
use object_store::ClientConfigKey as Client;
use object_store::ObjectStore;
use object_store::RetryConfig;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Where credentials and settings are described.
const HINT: &str = "write `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX`, \
                    `file:///FOLDER`, or `https://HOST/PATH` to read only";

/// The longest time to open a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// The variables of which one is set if there are credentials for S3.
const S3_CREDENTIALS: [&str; 5] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
];

/// As [`S3_CREDENTIALS`], for Google.
const GOOGLE_CREDENTIALS: [&str; 7] = [
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "SERVICE_ACCOUNT",
    "GOOGLE_BEARER_TOKEN",
    "GOOGLE_SKIP_SIGNATURE",
];

/// As [`S3_CREDENTIALS`], for Azure.
const AZURE_CREDENTIALS: [&str; 9] = [
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_TOKEN",
    "AZURE_STORAGE_CLIENT_ID",
    "AZURE_CLIENT_ID",
    "AZURE_STORAGE_USE_EMULATOR",
    "AZURE_SKIP_SIGNATURE",
];

/// The variables that may set the address of an S3 server.
const S3_ENDPOINTS: [&str; 4] =
    ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_S3_ENDPOINT"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    S3,
    Google,
    Azure,
    File,
    Http,
    Https,
}

/// The schemes by name.
const SCHEMES: [(&str, Scheme); 6] = [
    ("s3", Scheme::S3),
    ("gs", Scheme::Google),
    ("az", Scheme::Azure),
    ("file", Scheme::File),
    ("http", Scheme::Http),
    ("https", Scheme::Https),
];

/// The address of a remote cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    scheme: Scheme,
    /// The bucket, the container, or the host with its port; empty for a folder.
    host: String,
    /// The path without slashes at its ends; of a folder, absolute.
    path: String,
}

impl FromStr for Address {
    type Err = Hinted;

    /// The message does not contain the address, which may contain credentials.
    fn from_str(url: &str) -> Result<Address, Hinted> {
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| Hinted::new("the address is not a URL", HINT))?;
        let known = SCHEMES.iter().find(|(name, _)| *name == scheme);
        let &(_, scheme) = known.ok_or_else(|| {
            let shown: String = scheme.chars().take(20).flat_map(char::escape_default).collect();
            Hinted::new(format!("unknown scheme `{shown}`"), HINT)
        })?;
        if scheme == Scheme::File {
            let path = rest.strip_prefix("localhost").unwrap_or(rest);
            if !path.starts_with('/') {
                let hint = "write `file://` and the absolute path of the folder, such as \
                            `file:///data/repro`";
                return Err(Hinted::new("the path of the folder is not absolute", hint));
            }
            let path = path.trim_end_matches('/');
            let path = if path.is_empty() { "/" } else { path };
            return Ok(Address { scheme, host: String::new(), path: path.to_owned() });
        }
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        // A password may contain slashes. A bucket has no port, and so no colon.
        let has_password =
            matches!(scheme, Scheme::S3 | Scheme::Google | Scheme::Azure) && host.contains(':');
        if rest.contains('@') || has_password {
            let hint = "remove the name and the password, and `@`; credentials are read from the \
                        environment";
            return Err(Hinted::new("the address contains credentials", hint));
        }
        if rest.contains(['?', '#']) {
            let hint = "remove `?` and `#` with all that follows; credentials are read from the \
                        environment";
            return Err(Hinted::new("the address contains a query", hint));
        }
        let is_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if host.is_empty() || !host.chars().all(is_host) {
            return Err(Hinted::new("the address has no valid bucket or host", HINT));
        }
        let path = path.trim_matches('/');
        if Path::parse(path).is_err() {
            return Err(Hinted::new("the address has no valid path", HINT));
        }
        Ok(Address { scheme, host: host.to_owned(), path: path.to_owned() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Address { scheme, host, path } = self;
        let name = SCHEMES.iter().find(|(_, known)| known == scheme).map_or("", |(name, _)| name);
        let slash = if path.is_empty() || *scheme == Scheme::File { "" } else { "/" };
        write!(f, "{name}://{host}{slash}{path}")
    }
}

impl Address {
    /// Whether results can only be read.
    pub fn is_read_only(&self) -> bool {
        matches!(self.scheme, Scheme::Http | Scheme::Https)
    }

    /// The folder, if this is the address of one.
    pub(super) fn folder(&self) -> Option<&std::path::Path> {
        (self.scheme == Scheme::File).then(|| std::path::Path::new(&self.path))
    }

    /// Whether the environment has credentials, or none are needed.
    pub(super) fn has_credentials(&self) -> bool {
        let is_set = |name: &&str| std::env::var_os(name).is_some();
        match self.scheme {
            Scheme::S3 => S3_CREDENTIALS.iter().any(is_set),
            Scheme::Google => GOOGLE_CREDENTIALS.iter().any(is_set),
            Scheme::Azure => AZURE_CREDENTIALS.iter().any(is_set),
            Scheme::File | Scheme::Http | Scheme::Https => true,
        }
    }

    /// What to check if the server denies access or does not respond.
    pub(super) fn hint(&self) -> String {
        match self.scheme {
            Scheme::S3 if !self.has_credentials() => {
                "set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or `AWS_SKIP_SIGNATURE=true` \
                 for a public bucket"
                    .into()
            }
            Scheme::S3 => "check `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, \
                           `AWS_SESSION_TOKEN`, `AWS_REGION` and `AWS_ENDPOINT_URL`, and that the \
                           key may get, put and list objects of the bucket"
                .into(),
            Scheme::Google => "set `GOOGLE_APPLICATION_CREDENTIALS` to the file of a key that may \
                               get, create and list objects of the bucket"
                .into(),
            Scheme::Azure => "check `AZURE_STORAGE_ACCOUNT_NAME` and `AZURE_STORAGE_ACCOUNT_KEY`, \
                              and that the key may read, write and list blobs of the container"
                .into(),
            Scheme::File => "check that the folder exists and who may read and write it".into(),
            Scheme::Http | Scheme::Https => "check the address in a browser".into(),
        }
    }

    /// Opens the store, which makes no connection yet, and returns it with the prefix of its paths.
    /// Each connection is opened within `timeout`; requests have no time limit of their own.
    pub(super) fn open(
        &self,
        timeout: Duration,
    ) -> Result<(Arc<dyn ObjectStore>, Path), object_store::Error> {
        let connect = timeout.min(CONNECT);
        let settings = [
            (Client::ConnectTimeout, format!("{}ms", connect.as_millis())),
            // The caller limits the time without any data, not the time of a whole transfer.
            (Client::Timeout, "7days".to_owned()),
        ];
        let retry = RetryConfig {
            max_retries: 2,
            retry_timeout: timeout.saturating_mul(2),
            ..RetryConfig::default()
        };
        let prefix = || Path::parse(&self.path);
        Ok(match self.scheme {
            Scheme::S3 => {
                let mut builder = AmazonS3Builder::from_env().with_bucket_name(&self.host);
                for (key, value) in settings {
                    builder = builder.with_config(AmazonS3ConfigKey::Client(key), value);
                }
                let endpoint = S3_ENDPOINTS.iter().find_map(|name| std::env::var(name).ok());
                // An endpoint with `http://` says that no encryption is wanted.
                if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
                    builder = builder.with_allow_http(true);
                }
                (Arc::new(builder.with_retry(retry).build()?), prefix()?)
            }
            Scheme::Google => {
                let mut builder =
                    GoogleCloudStorageBuilder::from_env().with_bucket_name(&self.host);
                for (key, value) in settings {
                    builder = builder.with_config(GoogleConfigKey::Client(key), value);
                }
                (Arc::new(builder.with_retry(retry).build()?), prefix()?)
            }
            Scheme::Azure => {
                let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(&self.host);
                for (key, value) in settings {
                    builder = builder.with_config(AzureConfigKey::Client(key), value);
                }
                (Arc::new(builder.with_retry(retry).build()?), prefix()?)
            }
            Scheme::File => {
                let folder = LocalFileSystem::new_with_prefix(&self.path)?;
                (Arc::new(folder), Path::default())
            }
            Scheme::Http | Scheme::Https => {
                let mut builder = HttpBuilder::new().with_url(self.to_string());
                for (key, value) in settings {
                    builder = builder.with_config(key, value);
                }
                if self.scheme == Scheme::Http {
                    builder = builder.with_config(Client::AllowHttp, "true");
                }
                (Arc::new(builder.with_retry(retry).build()?), Path::default())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_printed_as_it_is_written_without_slashes_at_its_end() {
        for (written, shown) in [
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
            ("gs://bucket/a", "gs://bucket/a"),
            ("az://container", "az://container"),
            ("file:///data/cache/", "file:///data/cache"),
            ("http://127.0.0.1:8000/cache", "http://127.0.0.1:8000/cache"),
        ] {
            assert_eq!(written.parse::<Address>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn a_refused_address_is_not_part_of_the_message() {
        for (url, message) in [
            ("bucket/secret", "the address is not a URL"),
            ("ftp://secret", "unknown scheme `ftp`"),
            ("https://user:secret@host/x", "the address contains credentials"),
            ("https://user:sec/secret@host/x", "the address contains credentials"),
            ("s3://user:sec/secret@bucket/x", "the address contains credentials"),
            ("s3://user:secret/x", "the address contains credentials"),
            ("az://container/x?sig=secret", "the address contains a query"),
            ("s3:///secret", "the address has no valid bucket or host"),
            ("s3://bucket/a/../secret", "the address has no valid path"),
            ("file://secret/x", "the path of the folder is not absolute"),
        ] {
            let error = url.parse::<Address>().unwrap_err();
            assert_eq!(error.cause, message);
            assert!(!format!("{error:?}").contains("secret"), "{url}");
        }
    }

    #[test]
    fn only_web_servers_are_read_only() {
        let of = |url: &str| url.parse::<Address>().unwrap().is_read_only();
        assert!(of("http://host/x") && of("https://host"));
        assert!(!of("s3://bucket") && !of("file:///x"));
    }
}
