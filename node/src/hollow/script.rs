//! What a container's command would do, where that is plain to see: nothing is run here.

use std::time::Duration;

/// A command that ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Script {
    /// How long it runs.
    pub(super) runs: Duration,
    /// With which code it exits.
    pub(super) code: i32,
}

/// Words after which nothing can be said about the end.
const OPEN_ENDED: [&str; 8] = [
    "while", "until", "for", "wait", "trap", "exec", "infinity", "tail",
];

impl Script {
    /// Reads `sleep`, `exit`, `true` and `false` out of a command; none of them says nothing.
    pub(super) fn read(command: &[String]) -> Option<Script> {
        let text = command.join(" ");
        let separators = |c: char| c.is_whitespace() || ";&|()\"'".contains(c);
        let words: Vec<&str> = text.split(separators).filter(|w| !w.is_empty()).collect();
        if words.iter().any(|word| OPEN_ENDED.contains(word)) {
            return None;
        }
        let mut script = Script {
            runs: Duration::ZERO,
            code: 0,
        };
        let mut is_known = false;
        for (at, word) in words.iter().enumerate() {
            let next = words.get(at + 1);
            // Elsewhere these two are values of flags.
            let is_command = at == 0 || words[at - 1] == "-c";
            match *word {
                "sleep" | "/bin/sleep" => script.runs += pause(next?)?,
                "exit" => {
                    script.code = next.and_then(|code| code.parse().ok()).unwrap_or(0);
                    return Some(script);
                }
                "true" | "/bin/true" if is_command => script.code = 0,
                "false" | "/bin/false" if is_command => script.code = 1,
                _ => continue,
            }
            is_known = true;
        }
        is_known.then_some(script)
    }
}

/// The argument of `sleep`.
fn pause(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h', 'd']) {
        Some(number) => (number, text.chars().last()),
        None => (text, None),
    };
    let scale = match unit {
        Some('m') => 60.0,
        Some('h') => 3_600.0,
        Some('d') => 86_400.0,
        _ => 1.0,
    };
    let seconds = number.parse::<f64>().ok()? * scale;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_commands_are_understood_and_others_left_alone() {
        let read = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            Script::read(&words).map(|script| (script.runs.as_millis(), script.code))
        };
        assert_eq!(read(&["sleep", "5"]), Some((5_000, 0)));
        assert_eq!(
            read(&["sh", "-c", "echo a; sleep 0.5; exit 42"]),
            Some((500, 42))
        );
        assert_eq!(
            read(&["/bin/sh", "-c", "sleep 1m && exit 1"]),
            Some((60_000, 1))
        );
        assert_eq!(read(&["/bin/false"]), Some((0, 1)));
        for open in [
            &["sh", "-c", "while true; do sleep 5; done"][..],
            &["sleep", "infinity"],
            &["sh", "-c", "sleep $N"],
            &["server", "--verbose", "false"],
            &["nginx", "-g", "daemon off;"],
            &[],
        ] {
            assert_eq!(read(open), None, "{open:?}");
        }
    }
}
