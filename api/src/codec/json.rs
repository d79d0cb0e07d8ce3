//! JSON: a parser into documents and a writer, with the texts and escapes of Go's encoding/json.

mod indent;
mod parse;
mod write;

pub use indent::indent;
pub(crate) use parse::MAX_DEPTH;
pub use parse::{SyntaxError, parse};
pub(crate) use write::float;
pub use write::{write, write_string};

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str) -> String {
        let doc = parse(text.as_bytes().to_vec()).unwrap_or_else(|e| panic!("{e}: {text}"));
        doc.to_string()
    }

    fn error(text: &[u8]) -> String {
        parse(text.to_vec())
            .expect_err("must be refused")
            .to_string()
    }

    #[test]
    fn values_come_back_as_they_were() {
        for text in [
            "null",
            "true",
            "false",
            "0",
            "-1",
            "9223372036854775807",
            "-9223372036854775808",
            "1.50",
            "1e400",
            "-0",
            "\"\"",
            "[]",
            "{}",
            r#"{"a":{"b":[1,[],{}]},"c":"d"}"#,
        ] {
            assert_eq!(round(text), text);
        }
        assert_eq!(round(" { \"a\" :\n[ 1 , 2\t] }\r\n"), r#"{"a":[1,2]}"#);
        // Beyond 64 bits a number keeps its digits.
        assert_eq!(round("9223372036854775808"), "9223372036854775808");
    }

    #[test]
    fn strings_are_escaped_as_go_does() {
        assert_eq!(round(r#""\u0041\n\t\/\b\f""#), r#""A\n\t/\b\f""#);
        assert_eq!(
            round(r#""<a href='x'>&""#),
            r#""\u003ca href='x'\u003e\u0026""#
        );
        assert_eq!(round("\"\u{2028}\u{7f}é\""), "\"\\u2028\u{7f}é\"");
        assert_eq!(round(r#""\u0001""#), r#""\u0001""#);
        assert_eq!(
            round(r#""\ud83d\ude00 \ud83d \ude00x""#),
            "\"😀 \u{fffd} \u{fffd}x\""
        );
        let lossy = parse(b"\"a\xffb\"".to_vec()).expect("bad UTF-8 is replaced");
        assert_eq!(lossy.root().as_str(), Some("a\u{fffd}b"));
    }

    #[test]
    fn errors_speak_as_go_does() {
        assert_eq!(error(b""), "unexpected end of JSON input");
        assert_eq!(error(b"{"), "unexpected end of JSON input");
        assert_eq!(error(b"{\"a\":1"), "unexpected end of JSON input");
        assert_eq!(error(b"nul"), "unexpected end of JSON input");
        assert_eq!(
            error(b"{a"),
            "invalid character 'a' looking for beginning of object key string"
        );
        assert_eq!(
            error(b"[1,]"),
            "invalid character ']' looking for beginning of value"
        );
        assert_eq!(error(b"{\"a\"1}"), "invalid character '1' after object key");
        assert_eq!(
            error(b"{\"a\":1 2}"),
            "invalid character '2' after object key:value pair"
        );
        assert_eq!(error(b"[1 2]"), "invalid character '2' after array element");
        assert_eq!(
            error(b"{} x"),
            "invalid character 'x' after top-level value"
        );
        assert_eq!(
            error(b"nulx"),
            "invalid character 'x' in literal null (expecting 'l')"
        );
        assert_eq!(
            error(b"\"a\nb\""),
            "invalid character '\\n' in string literal"
        );
        assert_eq!(
            error(b"\"\\x\""),
            "invalid character 'x' in string escape code"
        );
        assert_eq!(
            error(b"\"\\u12g\""),
            "invalid character 'g' in \\u hexadecimal character escape"
        );
        assert_eq!(error(b"-a"), "invalid character 'a' in numeric literal");
        assert_eq!(
            error(b"1.a"),
            "invalid character 'a' after decimal point in numeric literal"
        );
        assert_eq!(
            error(b"1ea"),
            "invalid character 'a' in exponent of numeric literal"
        );
        assert_eq!(error(b"01"), "invalid character '1' after top-level value");
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
        assert!(parse(deep(1000)).is_ok());
        assert_eq!(error(&deep(1001)), "exceeded max depth");
    }

    #[test]
    fn floats_are_written_as_go_does() {
        for (value, text) in [
            (0.5, "0.5"),
            (1.0, "1"),
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (-1.25e-9, "-1.25e-9"),
            (0.0, "0"),
        ] {
            assert_eq!(float(value), text);
        }
    }
}
