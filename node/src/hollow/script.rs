//! What a container's command would do, where that is plain to see: nothing is run here.

use std::time::Duration;

/// A command of which it is plain how long it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Script {
    /// How long it runs; `None` if it does not end by itself.
    pub(super) runs: Option<Duration>,
    /// With which code it exits.
    pub(super) code: i32,
}

/// Words after which nothing can be said about the end.
const OPEN_ENDED: [&str; 7] = ["while", "until", "for", "wait", "trap", "exec", "tail"];

impl Script {
    const ENDLESS: Script = Script {
        runs: None,
        code: 0,
    };

    /// What a container does by its image, whose own command is unknown: the image `pause` sleeps.
    pub(super) fn of(image: &str, command: &[String]) -> Option<Script> {
        let name = image.rsplit('/').next().unwrap_or_default();
        let is_pause = name.split([':', '@']).next() == Some("pause");
        match command.is_empty() && is_pause {
            true => Some(Self::ENDLESS),
            false => Self::read(command),
        }
    }

    /// Reads `sleep`, `exit`, `true` and `false` out of a command; none of them says nothing.
    fn read(command: &[String]) -> Option<Script> {
        let text = command.join(" ");
        let separators = |c: char| c.is_whitespace() || ";&|()\"'".contains(c);
        let words: Vec<&str> = text.split(separators).filter(|w| !w.is_empty()).collect();
        if words.iter().any(|word| OPEN_ENDED.contains(word)) {
            return None;
        }
        let mut runs = Duration::ZERO;
        let mut code = 0;
        let mut is_known = false;
        for (at, word) in words.iter().enumerate() {
            let next = words.get(at + 1);
            // Elsewhere these two are values of flags.
            let is_command = at == 0 || words[at - 1] == "-c";
            match *word {
                "sleep" | "/bin/sleep" if next == Some(&"infinity") => return Some(Self::ENDLESS),
                "sleep" | "/bin/sleep" => runs += pause(next?)?,
                "exit" => {
                    code = next.and_then(|code| code.parse().ok()).unwrap_or(0);
                    is_known = true;
                    break;
                }
                "true" | "/bin/true" if is_command => code = 0,
                "false" | "/bin/false" if is_command => code = 1,
                _ => continue,
            }
            is_known = true;
        }
        let runs = Some(runs);
        is_known.then_some(Script { runs, code })
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
            Script::read(&words).map(|Script { runs, code }| (runs.map(|t| t.as_millis()), code))
        };
        assert_eq!(read(&["sleep", "5"]), Some((Some(5_000), 0)));
        assert_eq!(
            read(&["sh", "-c", "echo a; sleep 0.5; exit 42"]),
            Some((Some(500), 42))
        );
        assert_eq!(
            read(&["/bin/sh", "-c", "sleep 1m && exit 1"]),
            Some((Some(60_000), 1))
        );
        assert_eq!(read(&["/bin/false"]), Some((Some(0), 1)));
        assert_eq!(read(&["sleep", "infinity"]), Some((None, 0)));
        let pause = "registry.k8s.io/pause:3.10.1";
        assert_eq!(Script::of(pause, &[]), Some(Script::ENDLESS));
        assert_eq!(Script::of("example.org/pause/job:1", &[]), None);
        for open in [
            &["sh", "-c", "while true; do sleep 5; done"][..],
            &["sh", "-c", "sleep $N"],
            &["server", "--verbose", "false"],
            &["nginx", "-g", "daemon off;"],
            &[],
        ] {
            assert_eq!(read(open), None, "{open:?}");
        }
    }
}
