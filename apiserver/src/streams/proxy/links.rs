//! Links of a backend as they lead through the proxy: in headers, and in documents, which may be
//! compressed.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateDecoder, DeflateEncoder, GzDecoder, GzEncoder};
use futures::{Stream, StreamExt};

use super::clean;
use crate::body::StreamError;
use crate::streams::html::Rewriter;

/// How links are turned.
#[derive(Debug, Clone)]
pub(super) struct Links {
    /// What paths of the backend come after.
    pub(super) prefix: String,
    /// The backend as it names itself,
    pub(super) backend: String,
    /// and as the client named the proxy.
    pub(super) requested: String,
}

impl Links {
    /// A link as it leads through the proxy. Links to elsewhere and relative ones stay.
    pub(super) fn rewrite(&self, link: &str) -> String {
        let (scheme, rest) = scheme(link);
        let (authority, rest) = match rest.strip_prefix("//") {
            None => (None, rest),
            Some(rest) => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                (Some(&rest[..end]), &rest[end..])
            }
        };
        let host = authority.map(|a| a.rsplit_once('@').map_or(a, |(_, host)| host));
        let host = host.unwrap_or_default();
        let end = rest.find(['?', '#']).unwrap_or(rest.len());
        let (path, more) = rest.split_at(end);
        let is_elsewhere = !host.is_empty() && host != self.backend && host != self.requested;
        if is_elsewhere || !path.starts_with('/') {
            return link.to_string();
        }
        let start = match authority {
            Some(authority) if host == self.requested => format!("{scheme}//{authority}"),
            _ => String::new(),
        };
        if path.starts_with(&self.prefix) {
            return format!("{start}{path}{more}");
        }
        format!("{start}{}{more}", clean(&format!("{}{path}", self.prefix)))
    }
}

/// The scheme of a URL with its colon, and the rest.
fn scheme(url: &str) -> (&str, &str) {
    let Some(colon) = url.find(':') else {
        return ("", url);
    };
    let scheme = &url[..colon];
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    match is_scheme {
        true => url.split_at(colon + 1),
        false => ("", url),
    }
}

type Gzip = (GzDecoder<Vec<u8>>, GzEncoder<Vec<u8>>);
type Deflate = (DeflateDecoder<Vec<u8>>, DeflateEncoder<Vec<u8>>);

/// How a document is compressed.
pub(super) enum Coding {
    Plain,
    Gzip(Box<Gzip>),
    Deflate(Box<Deflate>),
}

impl Coding {
    pub(super) fn of(name: &str) -> Option<Self> {
        let level = Compression::default();
        match name {
            "" => Some(Self::Plain),
            "gzip" => Some(Self::Gzip(Box::new((
                GzDecoder::new(Vec::new()),
                GzEncoder::new(Vec::new(), level),
            )))),
            "deflate" => Some(Self::Deflate(Box::new((
                DeflateDecoder::new(Vec::new()),
                DeflateEncoder::new(Vec::new(), level),
            )))),
            _ => None,
        }
    }

    fn decode(&mut self, piece: &[u8]) -> Result<Vec<u8>, StreamError> {
        match self {
            Self::Plain => Ok(piece.to_vec()),
            Self::Gzip(both) => {
                both.0.write_all(piece)?;
                Ok(std::mem::take(both.0.get_mut()))
            }
            Self::Deflate(both) => {
                both.0.write_all(piece)?;
                Ok(std::mem::take(both.0.get_mut()))
            }
        }
    }

    fn encode(&mut self, text: Vec<u8>, is_last: bool) -> Result<Vec<u8>, StreamError> {
        match self {
            Self::Plain => Ok(text),
            Self::Gzip(both) => {
                both.1.write_all(&text)?;
                if is_last {
                    both.1.try_finish()?;
                }
                Ok(std::mem::take(both.1.get_mut()))
            }
            Self::Deflate(both) => {
                both.1.write_all(&text)?;
                if is_last {
                    both.1.try_finish()?;
                }
                Ok(std::mem::take(both.1.get_mut()))
            }
        }
    }
}

/// A document whose links lead through the proxy.
pub(super) fn rewritten(
    body: impl Stream<Item = Result<Bytes, StreamError>> + Send + 'static,
    mut coding: Coding,
    links: Links,
) -> impl Stream<Item = Result<Bytes, StreamError>> + Send {
    let mut rewriter = Rewriter::new(move |link: &str| links.rewrite(link));
    let end = futures::stream::iter([None]);
    body.map(Some).chain(end).map(move |piece| {
        let mut out = Vec::new();
        let is_last = piece.is_none();
        match piece {
            Some(piece) => rewriter.push(&coding.decode(&piece?)?, &mut out),
            None => rewriter.finish(&mut out),
        }
        Ok(coding.encode(out, is_last)?.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_through_the_proxy() {
        let links = Links {
            prefix: "/api/v1/namespaces/n/pods/p:80/proxy".into(),
            backend: "10.0.0.1:80".into(),
            requested: "localhost:8001".into(),
        };
        let through = |path: &str| format!("{}{path}", links.prefix);
        for (given, want) in [
            ("/a/?b=/c#d", through("/a/?b=/c#d")),
            ("http://10.0.0.1:80/a", through("/a")),
            (
                "http://localhost:8001/a",
                format!("http://localhost:8001{}", through("/a")),
            ),
            (&*through("/a"), through("/a")),
            ("a/b", "a/b".into()),
            ("//other/a", "//other/a".into()),
            ("https://other/a", "https://other/a".into()),
            ("mailto:a@b", "mailto:a@b".into()),
            ("#x", "#x".into()),
        ] {
            assert_eq!(links.rewrite(given), want, "{given}");
        }
    }

    #[tokio::test]
    async fn compressed_documents_are_rewritten_too() {
        let links = Links {
            prefix: "/p".into(),
            backend: String::new(),
            requested: String::new(),
        };
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"<a href=/x>").unwrap();
        let compressed = encoder.finish().unwrap();
        let pieces: Vec<_> = compressed.chunks(3).map(Bytes::copy_from_slice).collect();
        let body = futures::stream::iter(pieces.into_iter().map(Ok));
        let coding = Coding::of("gzip").unwrap();
        let found: Vec<_> = rewritten(body, coding, links).collect().await;
        let found: Vec<u8> = found.into_iter().flat_map(|piece| piece.unwrap()).collect();
        let mut decoder = GzDecoder::new(Vec::new());
        decoder.write_all(&found).unwrap();
        assert_eq!(decoder.finish().unwrap(), br#"<a href="/p/x">"#);
    }
}
