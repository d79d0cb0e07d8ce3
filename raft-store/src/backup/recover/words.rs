//! The plan of a recovery in plain words.

use std::fmt;

use super::{ASIDE, Plan, Standing};
use crate::position::LogPosition;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let best = &self.candidates[self.chosen];
        let (name, dir) = (&best.identity.name, best.dir.display());
        writeln!(f, "Recovery of cluster {:016x}", best.identity.cluster_id)?;
        for (i, candidate) in self.candidates.iter().enumerate() {
            let mark = if i == self.chosen { '*' } else { ' ' };
            writeln!(
                f,
                "\n{mark} member {} in {}",
                candidate.identity.name,
                candidate.dir.display()
            )?;
            write!(f, "{}", candidate.standing)?;
        }
        writeln!(
            f,
            "\nChosen: {name}. No other member given here has a newer log."
        )?;
        let standing = &best.standing;
        if standing.newest() > standing.surely_committed() {
            let from = standing
                .surely_committed()
                .map_or(0, |position| position.index + 1);
            let to = standing.newest().map_or(0, |position| position.index);
            writeln!(
                f,
                "Its entries {from} to {to} are not known to be committed. They are kept: some may \
                 have been acknowledged to clients."
            )?;
        }
        for member in &self.absent {
            writeln!(
                f,
                "Not looked at: member {} ({}). Writes that only the missing members hold are \
                 lost. If its disk can be read, give its data directory too.",
                member.name,
                member.peer_urls.join(", ")
            )?;
        }
        writeln!(f, "\nWhat will be done in {dir}:")?;
        writeln!(
            f,
            "1. Save the state of {name} with its whole log as recovered-TIME.backup."
        )?;
        writeln!(
            f,
            "2. Move the old files to {ASIDE}TIME. Nothing is deleted."
        )?;
        writeln!(
            f,
            "3. Start a new cluster from that state, with a new cluster ID: the old members cannot \
             talk to it any more. Their disks must be emptied before they join it."
        )?;
        write!(
            f,
            "4. Raise the revision and mark all history compacted, so that every client reads \
             afresh instead of trusting revisions that may be lost."
        )
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = |position: Option<LogPosition>| match position {
            Some(LogPosition { term, index }) => format!("{index} (term {term})"),
            None => "none".to_owned(),
        };
        writeln!(f, "    last log entry    {}", entry(self.newest()))?;
        writeln!(
            f,
            "    known committed   {}",
            entry(self.surely_committed())
        )?;
        writeln!(
            f,
            "    applied on disk   {}, revision {}",
            entry(self.applied),
            self.revision
        )?;
        match self.vote {
            Some((term, node, won)) => {
                let what = if won {
                    "follows or leads as"
                } else {
                    "voted for"
                };
                writeln!(
                    f,
                    "    vote              term {term}, {what} member {node:016x}"
                )
            }
            None => writeln!(f, "    vote              none"),
        }
    }
}
