//! The targets of links and images in Markdown of users.

/// The hint for a link that the report cannot keep.
pub(in crate::stage::report) const HINT: &str =
    "write a URL with `https://`, or the name of a file or heading of the report";

/// The target of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::stage::report) enum Target {
    /// A web page or a mail address.
    Web,
    /// A place in the same document.
    Anchor(String),
    /// A file, relative to the folder of all files.
    File(String),
    /// Neither, with the reason.
    Refused(String),
}

/// The target of `url` in the file `from`.
pub(in crate::stage::report) fn resolve(from: &str, url: &str) -> Target {
    if let Some(anchor) = url.strip_prefix('#') {
        return Target::Anchor(decode(anchor));
    }
    let scheme = url.split_once(':').map(|(scheme, _)| scheme.to_lowercase());
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    match scheme.filter(|scheme| is_scheme(scheme)).as_deref() {
        Some("http" | "https" | "mailto") => return Target::Web,
        Some(scheme) => {
            return Target::Refused(format!("links of the scheme `{scheme}` are not shown"));
        }
        None => {}
    }
    let path = decode(url.split(['?', '#']).next().unwrap_or_default());
    if path.is_empty() || path.starts_with('/') {
        return Target::Refused(format!("the link `{url}` leads to no file of the report"));
    }
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_some() => {}
            ".." => {
                return Target::Refused(format!("the link `{url}` leads to no file of the report"));
            }
            part => parts.push(part),
        }
    }
    Target::File(parts.join("/"))
}

/// Decodes `%20` and the like.
fn decode(url: &str) -> String {
    let bytes = url.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = url.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 3;
            }
            (byte, _) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|_| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_the_web_a_heading_or_a_file() {
        let file = |path: &str| Target::File(path.to_owned());
        for url in ["https://example.org/a:b", "HTTP://x", "mailto:a@b.c"] {
            assert_eq!(resolve("a/b.md", url), Target::Web);
        }
        assert_eq!(resolve("a/b.md", "#the-%C3%A9nd"), Target::Anchor("the-énd".into()));
        assert_eq!(resolve("a/b.md", "c.svg"), file("a/c.svg"));
        assert_eq!(resolve("a/b.md", "./d/../c%20d.svg?x#y"), file("a/c d.svg"));
        assert_eq!(resolve("b.md", "c@d=e:f.svg"), file("c@d=e:f.svg"));
        assert_eq!(resolve("a/b.md", "../c.svg"), file("c.svg"));
    }

    #[test]
    fn a_link_to_a_script_or_out_of_the_folder_is_refused() {
        for url in ["javascript:alert(1)", "data:text/html,x", "/etc/passwd", "../../x", "", "?x"] {
            assert!(matches!(resolve("a/b.md", url), Target::Refused(_)), "{url}");
        }
    }
}
