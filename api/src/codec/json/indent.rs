//! JSON for people: an indented form of what the writer wrote.

/// Appends compact JSON with a line for every member, indented by two blanks a level. What is no
/// JSON comes out as some text.
pub fn indent(compact: &[u8], out: &mut Vec<u8>) {
    let mut depth = 0;
    let mut in_string = false;
    let mut bytes = compact.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if in_string {
            out.push(byte);
            match byte {
                b'\\' => out.extend(bytes.next()),
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'{' | b'[' => {
                out.push(byte);
                if let Some(end) = bytes.next_if(|next| matches!(next, b'}' | b']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    new_line(depth, out);
                }
            }
            b'}' | b']' => {
                depth = usize::saturating_sub(depth, 1);
                new_line(depth, out);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                new_line(depth, out);
            }
            b':' => out.extend_from_slice(b": "),
            b'"' => {
                out.push(byte);
                in_string = true;
            }
            _ => out.push(byte),
        }
    }
}

fn new_line(depth: usize, out: &mut Vec<u8>) {
    out.push(b'\n');
    out.resize(out.len() + 2 * depth, b' ');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_get_lines_of_their_own() {
        let mut out = Vec::new();
        indent(
            br#"{"a":[1,{"b":"x, \"{y}: z"}],"c":{},"d":[],"e":null}"#,
            &mut out,
        );
        let want = r#"{
  "a": [
    1,
    {
      "b": "x, \"{y}: z"
    }
  ],
  "c": {},
  "d": [],
  "e": null
}"#;
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }
}
