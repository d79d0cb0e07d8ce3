//! Writes JSON straight into bytes: a document has a million values, none of which is read again.

use api::codec::json::write_string;

/// JSON under construction. Commas come by themselves.
#[derive(Default)]
pub(crate) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// The object that everything stands in.
    pub(crate) fn document(fill: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut writer = Self::default();
        writer.braces(fill);
        writer.out
    }

    /// A member that is an object.
    pub(crate) fn object(&mut self, key: &str, fill: impl FnOnce(&mut Self)) {
        self.key(key);
        self.braces(fill);
    }

    /// A member that is a list.
    pub(crate) fn list(&mut self, key: &str, fill: impl FnOnce(&mut Self)) {
        self.key(key);
        self.out.push(b'[');
        fill(self);
        self.out.push(b']');
    }

    /// A member that is a list of texts.
    pub(crate) fn texts<'t>(&mut self, key: &str, texts: impl IntoIterator<Item = &'t str>) {
        self.list(key, |list| {
            for text in texts {
                list.comma();
                write_string(text, &mut list.out);
            }
        });
    }

    /// A member that is a text.
    pub(crate) fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        write_string(text, &mut self.out);
    }

    /// A member that is a text, where there is one.
    pub(crate) fn text_if_any(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.text(key, text);
        }
    }

    /// A member that is true.
    pub(crate) fn yes(&mut self, key: &str) {
        self.raw(key, "true");
    }

    /// A member that is JSON already.
    pub(crate) fn raw(&mut self, key: &str, json: &str) {
        self.key(key);
        self.out.extend_from_slice(json.as_bytes());
    }

    /// Members that are JSON already.
    pub(crate) fn members(&mut self, json: &str) {
        if !json.is_empty() {
            self.comma();
            self.out.extend_from_slice(json.as_bytes());
        }
    }

    /// An object in a list.
    pub(crate) fn item(&mut self, fill: impl FnOnce(&mut Self)) {
        self.comma();
        self.braces(fill);
    }

    /// A value in a list that is JSON already.
    pub(crate) fn raw_item(&mut self, json: &str) {
        self.members(json);
    }

    fn braces(&mut self, fill: impl FnOnce(&mut Self)) {
        self.out.push(b'{');
        fill(self);
        self.out.push(b'}');
    }

    fn key(&mut self, key: &str) {
        self.comma();
        write_string(key, &mut self.out);
        self.out.push(b':');
    }

    fn comma(&mut self) {
        if !matches!(self.out.last(), None | Some(b'{' | b'[')) {
            self.out.push(b',');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_stand_between() {
        let bytes = Writer::document(|out| {
            out.object("a", |_| {});
            out.list("b", |list| {
                list.item(|item| item.text("c", "[\"<"));
                list.item(|item| item.yes("d"));
            });
            out.texts("e", ["f", "g"]);
            out.text_if_any("h", "");
            out.raw("i", "1");
        });
        let want = r#"{"a":{},"b":[{"c":"[\"\u003c"},{"d":true}],"e":["f","g"],"i":1}"#;
        assert_eq!(String::from_utf8(bytes).unwrap(), want);
    }
}
