//! The failures of a remote cache, without credentials.

use super::address::Address;
use object_store::Error;
use object_store::client::{HttpError, HttpErrorKind};
use std::error::Error as StdError;
use std::time::Duration;

/// The most characters of a server's message that are shown.
const SHOWN: usize = 160;

/// A remote that is down, slow, denies access or refuses a request. It concerns the whole remote,
/// not one object.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// One sentence that names the remote.
    pub message: String,
    /// What to check.
    pub hint: String,
}

impl Failure {
    /// The failure of a request to `address`.
    pub(super) fn of(address: &Address, error: &Error) -> Failure {
        let message = match error {
            Error::PermissionDenied { .. } => format!("the remote cache `{address}` denies access"),
            Error::Unauthenticated { .. } => {
                format!("the remote cache `{address}` does not accept the credentials")
            }
            Error::NotFound { .. } => format!("the remote cache `{address}` does not exist"),
            Error::NotImplemented { .. } | Error::NotSupported { .. } => {
                format!("the remote cache `{address}` cannot do this")
            }
            _ => match http(error) {
                Some(HttpErrorKind::Connect) => {
                    format!("cannot connect to the remote cache `{address}`{}", without(address))
                }
                Some(HttpErrorKind::Timeout) => {
                    let without = without(address);
                    format!("the remote cache `{address}` did not respond in time{without}")
                }
                Some(HttpErrorKind::Interrupted | HttpErrorKind::Request) => {
                    format!("the connection to the remote cache `{address}` was cut")
                }
                _ => {
                    let (without, cause) = (without(address), without_secrets(error));
                    format!("the remote cache `{address}` failed{without}: {cause}")
                }
            },
        };
        let hint = match error {
            Error::NotFound { .. } => {
                "create the bucket or the container, or check its name".to_owned()
            }
            _ => address.hint(),
        };
        Failure { message, hint }
    }

    /// The failure to read the settings and credentials of `address`.
    pub(super) fn of_settings(address: &Address, error: &Error) -> Failure {
        let (without, cause) = (without(address), without_secrets(error));
        let message =
            format!("the settings of the remote cache `{address}` are invalid{without}: {cause}");
        Failure { message, hint: address.hint() }
    }

    /// The failure of a request that had no response within `timeout`.
    pub(super) fn timeout(address: &Address, timeout: Duration) -> Failure {
        let seconds = timeout.as_secs_f64();
        let message = format!("the remote cache `{address}` did not respond within {seconds} s");
        Failure { message, hint: address.hint() }
    }

    /// A failure for another reason, a predicate: `is read-only`.
    pub(super) fn new(address: &Address, reason: &str) -> Failure {
        Failure { message: format!("the remote cache `{address}` {reason}"), hint: address.hint() }
    }
}

/// Whether another attempt may succeed: the connection was cut.
pub(super) fn is_cut(error: &Error) -> bool {
    let kind = http(error);
    let is_io = causes(error).any(|cause| cause.is::<std::io::Error>());
    kind.map_or(is_io, |kind| kind != HttpErrorKind::Connect)
}

/// What to add to a message if the environment has no credentials. The request that failed may then
/// be one for those of the machine's role.
fn without(address: &Address) -> &'static str {
    if address.has_credentials() { "" } else { ", and the environment has no credentials for it" }
}

fn http(error: &Error) -> Option<HttpErrorKind> {
    causes(error).find_map(|cause| cause.downcast_ref::<HttpError>()).map(HttpError::kind)
}

fn causes<'a>(error: &'a Error) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

/// The message of the last cause. The messages before it contain the address of the request, which
/// may contain a signature.
fn without_secrets(error: &Error) -> String {
    let last = causes(error).last().map_or_else(|| error.to_string(), ToString::to_string);
    let secrets: Vec<String> = std::env::vars()
        .filter(|(name, value)| {
            let is_secret = ["SECRET", "TOKEN", "KEY", "SAS", "PASSWORD"];
            value.len() >= 6 && is_secret.iter().any(|part| name.to_uppercase().contains(part))
        })
        .map(|(_, value)| value.trim_matches(['"', '\'']).to_owned())
        .collect();
    redact(&last, &secrets)
}

/// The start of a message, without queries of URLs and without `secrets`.
fn redact(message: &str, secrets: &[String]) -> String {
    let mut message = message.to_owned();
    for secret in secrets {
        message = message.replace(secret.as_str(), "***");
    }
    let words = message.split_whitespace().map(|word| match word.split_once('?') {
        Some((start, query)) if query.contains('=') => format!("{start}?***"),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ").chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_no_query_and_no_secret() {
        let message = "Error performing PUT http://h/x?sig=abc&se=1 in 3 s: key s3cr3t-s3cr3t bad";
        let shown = redact(message, &["s3cr3t-s3cr3t".to_owned()]);
        assert_eq!(shown, "Error performing PUT http://h/x?*** in 3 s: key *** bad");
    }

    #[test]
    fn a_long_message_is_shortened() {
        assert_eq!(redact(&"x ".repeat(500), &[]).len(), SHOWN);
    }
}
