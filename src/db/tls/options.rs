//! Takes the options about TLS out of a database URL, or out of libpq's `key=value` form,
//! before tokio-postgres sees it.

use super::{Check, DbError};

/// The options that tokio-postgres does not know, or not with all their values.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SslOptions {
    pub(super) mode: Option<String>,
    pub(super) root: Option<String>,
    pub(super) certificate: Option<String>,
    pub(super) key: Option<String>,
}

impl SslOptions {
    /// Where an option of this name is kept; `None` for all others.
    fn slot(&mut self, name: &str) -> Option<&mut Option<String>> {
        match name {
            "sslmode" => Some(&mut self.mode),
            "sslrootcert" => Some(&mut self.root),
            "sslcert" => Some(&mut self.certificate),
            "sslkey" => Some(&mut self.key),
            _ => None,
        }
    }

    pub(super) fn check(&self) -> Result<Check, DbError> {
        match self.mode.as_deref() {
            Some("disable") => Ok(Check::NoTls),
            Some("allow" | "prefer") => Ok(Check::Nothing),
            Some("verify-ca") => Ok(Check::Authority),
            Some("require" | "verify-full") => Ok(Check::AuthorityAndName),
            // Who names an authority wants it to be asked for.
            None if self.root.is_some() => Ok(Check::AuthorityAndName),
            None => Ok(Check::Nothing),
            Some(_) => Err(DbError::Url(
                "sslmode is none of disable, allow, prefer, require, verify-ca, verify-full"
                    .to_owned(),
            )),
        }
    }
}

/// Splits the SSL options off either form of URL.
pub(super) fn take_options(url: &str) -> Result<(String, SslOptions), DbError> {
    let url = url.trim();
    match ["postgres://", "postgresql://"].iter().find_map(|p| url.strip_prefix(p)) {
        Some(rest) => Ok(take_from_query(url, rest)),
        None if url.contains("://") => Err(DbError::Url("it is no postgres:// url".to_owned())),
        None => take_from_pairs(url),
    }
}

fn take_from_query(url: &str, after_prefix: &str) -> (String, SslOptions) {
    let mut options = SslOptions::default();
    // As tokio-postgres does it: a question mark before the @ is part of the password.
    let host = after_prefix.find('@').map_or(0, |at| at + 1);
    let Some(question) = after_prefix[host..].find('?') else {
        return (url.to_owned(), options);
    };
    let (base, query) = url.split_at(url.len() - after_prefix.len() + host + question);
    let mut kept = Vec::new();
    for pair in query[1..].split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match options.slot(name) {
            Some(slot) => *slot = Some(percent_decode(value)),
            None => kept.push(pair),
        }
    }
    (format!("{base}?{}", kept.join("&")), options)
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = text.get(text.len() - after.len()..).and_then(|t| t.get(..2));
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// libpq's `key=value` form: values may be quoted with `'`, `\` escapes.
fn take_from_pairs(text: &str) -> Result<(String, SslOptions), DbError> {
    let malformed = || DbError::Url("it is neither a postgres:// url nor key=value pairs".into());
    let mut options = SslOptions::default();
    let mut kept = String::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let mut name = String::new();
        while let Some(c) = chars.next_if(|&c| c != '=') {
            name.push(c);
        }
        let name = name.trim_end();
        if name.is_empty() && chars.peek().is_none() {
            return Ok((kept, options));
        }
        chars.next().ok_or_else(malformed)?;
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let ends = |c: char| if quoted { c == '\'' } else { c.is_whitespace() };
        let mut value = String::new();
        while let Some(c) = chars.next_if(|&c| !ends(c)) {
            value.push(if c == '\\' { chars.next().ok_or_else(malformed)? } else { c });
        }
        if quoted {
            chars.next().ok_or_else(malformed)?;
        }
        match options.slot(name) {
            Some(slot) => *slot = Some(value),
            None => {
                let value = value.replace('\\', "\\\\").replace('\'', "\\'");
                kept.push_str(&format!("{name}='{value}' "));
            }
        }
    }
}

/// The driver's words may quote a piece of a password that was not encoded, so only the
/// names in these lists are passed on.
pub(super) fn unreadable(error: &tokio_postgres::Error) -> DbError {
    const UNSUPPORTED: [&str; 9] = [
        "passfile",
        "service",
        "sslcrl",
        "gssencmode",
        "krbsrvname",
        "require_auth",
        "client_encoding",
        "fallback_application_name",
        "keepalives_count",
    ];
    const VALUES: [&str; 8] = [
        "port",
        "hostaddr",
        "target_session_attrs",
        "channel_binding",
        "load_balance_hosts",
        "sslnegotiation",
        "connect_timeout",
        "keepalives",
    ];
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let named = |name: &&&str| cause.ends_with(&format!("`{name}`"));
    if let Some(name) = UNSUPPORTED.iter().find(named) {
        return DbError::Url(format!("the option {name} is not supported"));
    }
    if let Some(name) = VALUES.iter().find(named) {
        return DbError::Url(format!("the value of {name} is not valid"));
    }
    DbError::Url("it can't be read; special characters in user, password and database are written as %XX, @ as %40".to_owned())
}

#[cfg(test)]
mod tests {
    use tokio_postgres::{Config, config::SslMode};

    use super::{super::Target, *};

    fn parse(url: &str) -> Result<(Config, Check), DbError> {
        let (rest, options) = take_options(url)?;
        let target = Target::parse(url)?;
        assert!(!rest.contains("ssl"), "{rest}");
        Ok((target.config, options.check()?))
    }

    #[test]
    fn each_sslmode_in_both_forms() {
        for (mode, ssl_mode, check) in [
            ("disable", SslMode::Disable, Check::NoTls),
            ("allow", SslMode::Prefer, Check::Nothing),
            ("prefer", SslMode::Prefer, Check::Nothing),
            ("require", SslMode::Require, Check::AuthorityAndName),
            ("verify-ca", SslMode::Require, Check::Authority),
            ("verify-full", SslMode::Require, Check::AuthorityAndName),
        ] {
            for url in [
                format!("postgres://u:p@h:1/d?sslmode={mode}&application_name=a"),
                format!("postgresql://u:p@h:1/d?application_name=a&sslmode={mode}"),
                format!(
                    "host=h port = 1 user=u password='p' dbname=d sslmode='{mode}' application_name=a"
                ),
            ] {
                let (config, got) = parse(&url).expect(&url);
                assert_eq!((config.get_ssl_mode(), got), (ssl_mode, check), "{url}");
                assert_eq!(config.get_application_name(), Some("a"));
                assert_eq!(config.get_password(), Some(&b"p"[..]));
                assert_eq!(config.get_ports(), [1]);
            }
        }
        assert!(parse("postgres://h/d?sslmode=yes").is_err());
        assert_eq!(parse("postgres://h/d").expect("a url").1, Check::Nothing);
    }

    #[test]
    fn values_survive_quoting_and_encoding() {
        let (rest, options) =
            take_options("host=h password='a\\' \\\\b' sslrootcert=/c\\ d sslcert='x y'")
                .expect("pairs");
        let config: Config = rest.parse().expect("still pairs");
        assert_eq!(config.get_password(), Some(&br"a' \b"[..]));
        assert_eq!(options.root.as_deref(), Some("/c d"));
        assert_eq!(options.certificate.as_deref(), Some("x y"));
        let (rest, options) =
            take_options("postgres://u:p?sslmode=x@h/d?sslrootcert=/a%20b%2Fc%").expect("a url");
        assert_eq!(rest, "postgres://u:p?sslmode=x@h/d?");
        assert_eq!(options.root.as_deref(), Some("/a b/c%"));
        assert_eq!(options.mode, None);
    }

    #[test]
    fn no_error_shows_a_password() {
        for url in [
            "postgres://u:geheim@h:notaport/d",
            "postgres://u:se?geheim=x@h/d@x?geheim",
            "postgres://u:x/geheim@h/d?geheim=1",
            "postgres://h/d?geheim=1",
            "host=h password='geheim",
            "geheim",
            "https://geheim",
            "host=h geheim=1",
            "user=u password=geheim",
            "postgres://u:geheim@/d",
        ] {
            let error = Target::parse(url).err().expect(url).to_string();
            assert!(!error.contains("geheim"), "{error}");
        }
        let error =
            Target::parse("postgres://h/d?service=x").err().expect("unsupported").to_string();
        assert!(error.contains("service"), "{error}");
    }

    #[test]
    fn where_it_leads() {
        let server = |url: &str| Target::parse(url).expect(url).server;
        assert_eq!(server("postgres://u:p@a,b:7/d"), "a:5432 or b:7, database d");
        assert_eq!(server("postgres://u@%2Fvar%2Frun/d"), "its unix socket, database d");
        assert_eq!(server("hostaddr=127.0.0.1"), "127.0.0.1:5432");
    }
}
