//! The kinds of values that settings have, each read from and written as a short text.
//!
//! Every kind is `FromStr` and `Display`, with error messages that say what a right value looks
//! like; [`text`] and [`texts`] carry them through serde. A value may so be written alike in YAML,
//! in a variable and on the command line.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A span of time such as `100ms`, `5s` or `1h30m`. A number without a unit is milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// A span of whole milliseconds.
    pub const fn from_millis(millis: u64) -> Span {
        Span(Duration::from_millis(millis))
    }
}

/// Units of [`Span`] in milliseconds, largest first.
const TIME_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let wrong = || format!("`{text}` is not a time span such as 100ms, 5s or 1h30m");
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(wrong());
        }
        if let Ok(millis) = rest.parse() {
            return Ok(Span::from_millis(millis));
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let (number, tail) = rest.split_at(digits);
            let unit_end = tail
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_end);
            let scale = TIME_UNITS
                .iter()
                .find(|(name, _)| *name == unit)
                .ok_or_else(wrong)?
                .1;
            let number: u64 = number.parse().map_err(|_| wrong())?;
            let millis = number.checked_mul(scale).ok_or_else(wrong)?;
            total = total.checked_add(millis).ok_or_else(wrong)?;
            rest = tail;
        }
        Ok(Span::from_millis(total))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let unit = TIME_UNITS
            .iter()
            .find(|(_, scale)| millis >= *scale && millis.is_multiple_of(*scale));
        match unit {
            Some((name, scale)) => write!(f, "{}{name}", millis / scale),
            None => write!(f, "{millis}ms"),
        }
    }
}

/// A number of bytes such as `64MiB` or `1.5GiB`. A number without a unit is bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Units of [`ByteSize`], largest first.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl ByteSize {
    /// A size in MiB.
    pub const fn mib(mib: u64) -> ByteSize {
        ByteSize(mib << 20)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<ByteSize, String> {
        let wrong = || format!("`{text}` is not a size such as 512MiB, 16GiB or a number of bytes");
        let text = text.trim();
        let (number, scale) = SIZE_UNITS
            .iter()
            .find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale)))
            .unwrap_or((text, 1));
        let number = number.trim();
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(scale).map(ByteSize).ok_or_else(wrong);
        }
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let bytes = number * scale as f64;
        let sensible = bytes.is_finite() && bytes >= 0.0 && bytes < u64::MAX as f64;
        sensible.then_some(ByteSize(bytes as u64)).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = &SIZE_UNITS[..4];
        match binary
            .iter()
            .find(|(_, scale)| self.0 >= *scale && self.0.is_multiple_of(*scale))
        {
            Some((unit, scale)) => write!(f, "{}{unit}", self.0 / scale),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Where a member is reached: `https://HOST:PORT`, or `http://…` for plain text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    /// TLS.
    pub secure: bool,
    /// Name or address; an IPv6 address without its brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Url {
    /// The address part of the host, if it is an address.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.ip().is_some_and(|ip| ip.is_loopback())
    }

    /// Whether it stands for all addresses of the machine, so that nobody can connect to it as is.
    pub fn is_wildcard(&self) -> bool {
        self.ip().is_some_and(|ip| ip.is_unspecified())
    }

    /// `HOST:PORT`, with brackets around an IPv6 address.
    pub fn authority(&self) -> String {
        match self.ip() {
            Some(ip) => SocketAddr::new(ip, self.port).to_string(),
            None => format!("{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Url, String> {
        let wrong = || format!("`{text}` is not a URL such as https://10.0.0.1:2379");
        let (scheme, rest) = text.trim().split_once("://").ok_or_else(wrong)?;
        let secure = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(wrong()),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = authority.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = match bare {
            Some(v6) if v6.parse::<IpAddr>().is_ok() => v6,
            Some(_) => return Err(wrong()),
            None => host,
        };
        let named = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if host.is_empty() || (bare.is_none() && !host.chars().all(named)) {
            return Err(wrong());
        }
        let host = host.to_string();
        Ok(Url { secure, host, port })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

/// A founding member of a cluster: `NAME=PEER-URL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialMember {
    /// The member's name.
    pub name: String,
    /// Where its peers reach it.
    pub url: Url,
}

impl FromStr for InitialMember {
    type Err = String;

    fn from_str(text: &str) -> Result<InitialMember, String> {
        let wrong = || format!("`{text}` is not NAME=URL such as master-1=https://10.0.0.1:2380");
        let (name, url) = text.trim().split_once('=').ok_or_else(wrong)?;
        if name.is_empty() {
            return Err(wrong());
        }
        let name = name.to_string();
        let url = url.parse()?;
        Ok(InitialMember { name, url })
    }
}

impl fmt::Display for InitialMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.url)
    }
}

/// A value with few choices, from its lower-case name.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<$name, String> {
                match text.trim() {
                    $($text => Ok($name::$variant),)+
                    other => Err(format!("`{other}` is none of: {}", [$($text),+].join(", "))),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($name::$variant => $text),+ })
            }
        }
    };
}

choice! {
    /// How log lines look.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

choice! {
    /// Which place a cluster runs in.
    CloudProvider {
        /// Bare metal: addresses of load balancers come out of pools.
        Local = "local",
        /// A process that speaks the protocol of providers.
        Grpc = "grpc",
    }
}

choice! {
    /// What `auto-compaction-retention` counts.
    CompactionMode {
        /// Time.
        Periodic = "periodic",
        /// Revisions.
        Revision = "revision",
    }
}

/// A scalar of any kind, as YAML may write a value without quotes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Bool(value) => value.fmt(f),
            Scalar::Unsigned(value) => value.fmt(f),
            Scalar::Signed(value) => value.fmt(f),
            Scalar::Float(value) => value.fmt(f),
            Scalar::Text(value) => value.fmt(f),
        }
    }
}

/// One value, for `#[serde(with = …)]`.
pub mod text {
    use super::{Deserialize, FromStr, Scalar, Serialize, fmt};
    use serde::{Deserializer, Serializer, de::Error};

    /// Reads the value from a scalar.
    pub fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr<Err: fmt::Display>,
    {
        let scalar = Scalar::deserialize(deserializer)
            .map_err(|_| D::Error::custom("expected a single value"))?;
        scalar.to_string().parse().map_err(D::Error::custom)
    }

    /// Writes the value as text.
    pub fn serialize<S: Serializer, T: fmt::Display>(v: &T, s: S) -> Result<S::Ok, S::Error> {
        v.to_string().serialize(s)
    }
}

/// Several values, for `#[serde(with = …)]`: a sequence, or one text with commas between them.
pub mod texts {
    use super::{Deserialize, FromStr, Scalar, Serialize, fmt};
    use serde::{Deserializer, Serializer, de::Error};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        Many(Vec<Scalar>),
        One(Scalar),
    }

    /// Reads the values; empty pieces are skipped.
    pub fn deserialize<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr<Err: fmt::Display>,
    {
        let given = OneOrMany::deserialize(deserializer)
            .map_err(|_| D::Error::custom("expected a list of values"))?;
        let texts: Vec<String> = match given {
            OneOrMany::Many(all) => all.iter().map(Scalar::to_string).collect(),
            OneOrMany::One(one) => vec![one.to_string()],
        };
        let pieces = texts.iter().flat_map(|text| text.split(','));
        let pieces = pieces.map(str::trim).filter(|piece| !piece.is_empty());
        pieces
            .map(|piece| piece.parse().map_err(D::Error::custom))
            .collect()
    }

    /// Writes the values as a sequence of texts.
    pub fn serialize<S: Serializer, T: fmt::Display>(v: &[T], s: S) -> Result<S::Ok, S::Error> {
        v.iter().map(T::to_string).collect::<Vec<_>>().serialize(s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_and_write() {
        for (text, millis, written) in [
            ("100ms", 100, "100ms"),
            ("100", 100, "100ms"),
            ("5s", 5_000, "5s"),
            ("1h30m", 5_400_000, "90m"),
            ("1m500ms", 60_500, "60500ms"),
            ("0", 0, "0ms"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span, Span::from_millis(millis), "{text}");
            assert_eq!(span.to_string(), written);
            assert_eq!(written.parse::<Span>().unwrap(), span);
        }
        for text in ["", "s", "5 s", "-5s", "5d", "1.5s", "99999999999999999999h"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_read_and_write() {
        for (text, bytes, written) in [
            ("16GiB", 16 << 30, "16GiB"),
            ("1.5MiB", 1_572_864, "1536KiB"),
            ("2147483648", 2 << 30, "2GiB"),
            ("10kB", 10_000, "10000"),
            ("64 MiB", 64 << 20, "64MiB"),
            ("0", 0, "0"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size, ByteSize(bytes), "{text}");
            assert_eq!(size.to_string(), written);
            assert_eq!(written.parse::<ByteSize>().unwrap(), size);
        }
        for text in ["", "GiB", "-1", "16 gigs", "NaN", "99999999TiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn urls_read_and_write() {
        for text in [
            "https://10.0.0.1:2379",
            "http://localhost:80",
            "https://[::1]:2380",
            "https://a-b.example:1",
        ] {
            assert_eq!(text.parse::<Url>().unwrap().to_string(), text);
        }
        assert_eq!(
            "https://a:1/".parse::<Url>().unwrap().to_string(),
            "https://a:1"
        );
        assert!("https://[::]:1".parse::<Url>().unwrap().is_wildcard());
        assert!("https://127.0.0.9:1".parse::<Url>().unwrap().is_loopback());
        for text in [
            "",
            "10.0.0.1:2379",
            "ftp://a:1",
            "https://a",
            "https://:1",
            "https://a:99999",
            "https://::1:80",
            "https://[a]:1",
            "https://a:1/x",
            "https://u@h:1",
        ] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
    }

    #[test]
    fn members_and_choices_read_and_write() {
        let member: InitialMember = "m1=https://10.0.0.1:2380".parse().unwrap();
        assert_eq!(member.to_string(), "m1=https://10.0.0.1:2380");
        assert!("https://10.0.0.1:2380".parse::<InitialMember>().is_err());
        assert!("=https://10.0.0.1:2380".parse::<InitialMember>().is_err());
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        let wrong = "xml".parse::<LogFormat>().unwrap_err();
        assert_eq!(wrong, "`xml` is none of: text, json");
    }
}
