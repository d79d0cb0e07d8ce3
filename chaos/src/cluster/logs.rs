//! What members' logs say about their end.

use super::Cluster;
use crate::evidence::Trouble;

impl Cluster {
    /// The end of a member's log.
    pub(super) fn last_words(&self, member: usize) -> String {
        let text = std::fs::read(self.log(member)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.lines().last().unwrap_or("none").to_owned()
    }

    /// Looks for members' last words in their logs, those of members that left included.
    pub fn read_logs(&mut self) {
        const LAST_WORDS: &[&str] = &["panicked at", "panic: ", "SIGSEGV", "fatal error: "];
        for member in 0..self.places.len() {
            let text = std::fs::read(self.log(member)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let found = text
                .lines()
                .find(|line| LAST_WORDS.iter().any(|word| line.contains(word)));
            let excused = self.places[member].may_exit || self.plan.disks.fill();
            if let Some(line) = found.filter(|_| !excused) {
                let message = format!("log of member {member}: {line}");
                self.troubles.push(Trouble {
                    of_store: true,
                    message,
                });
            }
        }
    }
}
